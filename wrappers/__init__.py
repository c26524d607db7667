"""Where wrappers will lie: for actions, observations, and logging. There are none yet."""
