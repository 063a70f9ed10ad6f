"""What `command=` takes: one module per command, each registers itself with the options it adds."""
