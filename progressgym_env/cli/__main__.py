"""``python -m progressgym_env.cli``."""

from progressgym_env.cli import main

if __name__ == "__main__":
    main()
