from velostream.cli.main import main

raise SystemExit(main())
