"""`python -m irmd`."""

from .main import main

raise SystemExit(main())
