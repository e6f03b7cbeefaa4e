"""What tests of several engines share."""


def of_study(rows, study):
    """The rows of another study's trials that `study` has too, as text."""
    keys = ["defense", "drop_max", "fold", "seed"]
    return rows.merge(study[keys].drop_duplicates(), on=keys)
