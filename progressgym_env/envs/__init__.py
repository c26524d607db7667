"""The three challenges as Gymnasium environments.

``follow``, ``predict`` and ``coevolve`` hold one environment each; ``progress`` what they share.
"""
