"""``python -m nsrun``: the same as the ``nsrun`` command."""

from nsrun.cli import main

main()
