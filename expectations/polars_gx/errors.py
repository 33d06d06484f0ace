"""What goes wrong when a frame is judged."""


class CannotJudge(Exception):
    """An expectation, or an option of it, that nothing here can compute for that frame: an error, never a pass."""
