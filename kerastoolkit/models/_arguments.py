"""What builders check of their arguments before the first layer is made."""


def check_sizes(**sizes) -> None:
    """Refuses what is no positive integer, by its name."""
    for name, size in sizes.items():
        if not is_positive_integer(size):
            raise ValueError(f"{name} must be a positive integer, got {size!r}")


def is_positive_integer(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_rate(name: str, value) -> None:
    """Refuses a rate outside [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value!r}")
