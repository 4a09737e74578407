"""``python -m durable`` is ``durable``."""

from durable.cli import main

raise SystemExit(main())
