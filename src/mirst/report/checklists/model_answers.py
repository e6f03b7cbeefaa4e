"""Answers on the models: what they are, and how they are trained, selected and used."""

from mirst.report.checklists.data_answers import RUN, STUDY
from mirst.report.checklists.items import Answer, Evidence
from mirst.report.context import listed
from mirst.report.study_notes import decision_rule, weights_of


def inputs(study: Evidence) -> Answer:
    fused = study.results.spec.model.box == "fused"
    box = ", and the aspect and the area of the box of the lesion" if fused else " alone"
    return Answer(f"The input of a model is the image{box}.", [STUDY])


def description(study: Evidence) -> Answer:
    results = study.results
    pooled = [entry.title for entry in results.spec.defenses if entry.drop_max]
    drop_max = f" In {listed(pooled)}, a drop-max layer replaces the first max-pool." if pooled else ""
    return Answer(
        f"{results.spec.model.network}, with one logit for each of the classes {listed(results.classes)}. "
        f"{inputs(study).sentence}{drop_max}",
        [STUDY],
    )


def software(study: Evidence) -> Answer:
    run = study.results.run
    packages = [f"{name} {version}" for name, version in run["packages"].items()]
    return Answer(f"{listed(packages)}, Python {run['python']}, on {run['machine']}.", [RUN])


def initialization(study: Evidence) -> Answer:
    return Answer(f"Every training starts from {weights_of(study.results)}.", [RUN])


def training(study: Evidence) -> Answer:
    spec = study.results.spec
    used = spec.training
    changes = "with random changes of the images" if used.augmentation else "without changes of the images"
    ways = listed([entry.title for entry in spec.defenses])
    return Answer(
        f"{len(spec.defenses)} way(s) of training ({ways}), each for {used.epochs} epochs with {used.optimizer}, "
        f"learning rate {used.lr:g} ({used.schedule}), batches of {used.batch_size}, {changes}. Every setting is "
        "in the file.",
        [STUDY],
    )


def selection(study: Evidence) -> Answer:
    rule = study.results.spec.training.select
    kept = {
        "last": "the last epoch; no epoch is selected",
        "best_robust": "the epoch at full eps of the largest balanced accuracy on validation images, the mean of that "
        "without and under attack",
        "best_robust_auc": "the epoch at full eps of the largest AUC on validation images, the mean of that without "
        "and under attack",
    }[rule]
    return Answer(f"The weights are those of {kept} (training.select: {rule}). Test images decide nothing.", [STUDY])


def model_building(study: Evidence) -> Answer:
    """All steps of the building of a model."""
    steps = (description, initialization, training, selection, ensembles)
    return Answer(" ".join(step(study).sentence for step in steps), [STUDY, RUN])


def ensembles(study: Evidence) -> Answer:
    if study.results.origin is not None:
        return Answer(f"The models are {study.results.origin}.", [RUN])
    combined = [one for one in study.externals if one.ensembles is not None]
    if combined:
        names = listed([one.name for one in combined])
        return Answer(
            f"On {names}, the models of all folds are also combined to an ensemble. Every other figure is of single "
            "models.",
            [study.place(one.folder.ensembles()) for one in combined],
        )
    return Answer("No ensemble: every figure is of single models.", [RUN])


def imbalance(study: Evidence) -> Answer:
    weighed = study.results.spec.training.class_weights == "balanced"
    how = "classes are weighed inversely to their frequency" if weighed else "all images have the same weight"
    return Answer(f"In the loss of training, {how} (training.class_weights).", [STUDY])


def decision(study: Evidence) -> Answer:
    binary = len(study.results.classes) == 2
    rule = decision_rule(study.results) if binary else "Every model predicts the class of the largest logit."
    return Answer(rule, [STUDY])


def model_files(study: Evidence) -> Answer | None:
    """`None` if a user has removed the models."""
    trials = [trial for entry in study.results.spec.defenses for trial in study.results.trials(entry)]
    paths = [study.results.files.trial(trial.name).model for trial in trials]
    found = [path for path in paths if path.exists()]
    if not found:
        return None
    return Answer(
        f"{len(found)} trained model(s), one per way of training, fold and seed, as safetensors; mirst predict applies "
        "one to new images, and mirst export converts it. The first is linked.",
        [study.place(found[0])],
    )
