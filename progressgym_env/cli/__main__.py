"""``python -m progressgym_env.cli``."""

from progressgym_env.cli import main

main()
