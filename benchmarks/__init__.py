"""Speed, side by side. Never collected by the tests; `make bench` runs it. See README.md."""
