"""Amounts of memory for people."""

_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi")


def written(count: int) -> str:
    """Bytes as Kubernetes writes them, in the largest unit below: `512Mi`, `1.5Gi`."""
    amount, unit = float(count), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f}".removesuffix(".0") + _UNITS[unit]
