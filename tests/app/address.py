"""Where a started explorer serves its page."""


def address_of(process):
    """Waits until it does."""
    return next(line for line in process.stdout if line.startswith("Explorer: ")).split()[1]
