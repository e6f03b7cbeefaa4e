"""`mirst evaluate`: attacks or corruptions, on a model or on a whole study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mirst.cli.answer import Answer, AsJsonOption
from mirst.cli.evaluate_model import (
    evaluate_strong,
    evaluate_weak,
    open_named_model,
    parse_stand_ins,
    warn_of_training_images,
)
from mirst.cli.evaluate_study import evaluate_study
from mirst.cli.evaluation_input import require_effect, require_folder
from mirst.cli.options import (
    DeviceOption,
    EngineOption,
    GpusOption,
    JobsOption,
    RayAddressOption,
    SetOption,
    TrustOption,
)
from mirst.cli.run import engine_of
from mirst.cli.suite_option import SuiteOption
from mirst.errors import MirstError

if TYPE_CHECKING:
    from mirst.evaluation import SuiteName


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A model.safetensors that mirst wrote, package.module:factory, or the results folder of a study."
        ),
    ],
    data: Annotated[Path | None, typer.Option("--data", help="Data set that the model was not trained on.")] = None,
    suite: Annotated[
        SuiteOption,
        typer.Option(
            "--suite",
            help="paper: the paper's weak attacks; standard: strong attacks; adaptive: standard plus attacks adapted "
            "to the model; distances: the smallest eps at which each image is misclassified; corruptions: natural "
            "corruptions; boxes: misplaced boxes, for models that see the lesion.",
        ),
    ] = SuiteOption.paper,
    eps: Annotated[
        str | None,
        typer.Option(
            "--eps", help="Values of eps for standard and adaptive, for example 1/255,2/255,5/255. Default: 5/255."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="For adaptive: source model of the transfer attacks.")
    ] = None,
    stand_in: Annotated[
        list[str] | None,
        typer.Option(
            "--stand-in",
            metavar="LAYER=FACTORY",
            help="For adaptive: module whose gradient replaces that of LAYER: identity or package.module:factory. "
            "Can be given several times.",
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(
            "--draws", help="For adaptive: number of calls of a randomised model to average each gradient over."
        ),
    ] = 1,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            help="Attack to run instead of the suite: fgsm, pgd, cw, or {name: pgd, steps: 100}. Can be given "
            "several times.",
        ),
    ] = None,
    auc: Annotated[
        bool,
        typer.Option(
            "--auc",
            help="For paper, standard and adaptive: attack misclassified images too, and report the AUC under attack.",
        ),
    ] = False,
    modality: Annotated[
        str | None,
        typer.Option(
            "--modality",
            help="For corruptions: whose corruptions, for example xray. Default: data.modality of the study.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the outcome rows and the curve over eps.")
    ] = None,
    override: SetOption = None,
    jobs: JobsOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    gpus_per_trial: GpusOption = None,
    as_json: AsJsonOption = False,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Test a model on a data set, or all models of a study on their test folds, under attacks or corruptions."""
    from mirst.evaluation import corruption_set
    from mirst.nn import reference_mode
    from mirst.study import load_spec, parse_eps

    strong = suite in (SuiteOption.standard, SuiteOption.adaptive)
    if eps and not strong:
        raise MirstError(
            "--eps is for --suite standard or adaptive; set eps of other attacks with "
            "--attack '{name: pgd, eps: 8/255}'"
        )
    if source and suite is not SuiteOption.adaptive:
        raise MirstError("--source is for transfer attacks; add --suite adaptive")
    if (stand_in or draws != 1) and suite is not SuiteOption.adaptive:
        raise MirstError("--stand-in and --draws are for adaptive attacks; add --suite adaptive")
    if auc and not (strong or suite is SuiteOption.paper):
        raise MirstError(f"--auc is for --suite paper, standard or adaptive, not {suite}; leave it out")
    if attack and suite is not SuiteOption.paper:
        raise MirstError(f"--attack and --suite {suite} cannot be combined; leave one out")
    if modality is not None:
        if suite is not SuiteOption.corruptions:
            raise MirstError("--modality is for --suite corruptions; leave it out")
        corruption_set(modality, "auto")  # or a wrong name would be told after the data is read
    radii = parse_eps(eps or "5/255") if strong else []
    require_effect(override or [], [model, *([source] if source else [])])
    if Path(model).is_dir():
        if source or attack or out or stand_in or draws != 1:
            raise MirstError(
                f"{model} is the results folder of a study; leave out --source, --stand-in, --draws, --attack and --out"
            )
        answer = Answer(as_json, results=model, suite=suite.value, eps=radii)
        where = engine_of(engine, jobs, ray_address, gpus_per_trial)
        evaluate_study(Path(model), data, suite, radii, auc, modality, where, answer)
        answer.end()
        return
    if engine != "local" or ray_address is not None or gpus_per_trial is not None or jobs is not None:
        raise MirstError(
            "--jobs, --engine, --ray-address and --gpus-per-trial are for the trials of a study; leave them out"
        )
    if data is None:
        raise MirstError("give the images to evaluate on with --data PATH")
    if out is not None:
        require_folder(out, [data, *map(Path, (model, source or model))])
    answer = Answer(as_json, model=model, data=str(data), suite=suite.value, eps=radii)
    with reference_mode(not load_spec(None, override or []).training.fast):
        opened, card = open_named_model(model, data, override or [], trust)
        warn_of_training_images(model, card, data, answer)
        if strong:
            twin = None if source is None else open_named_model(source, data, override or [], trust)[0]
            layers = parse_stand_ins(stand_in or [], opened)
            name = cast("SuiteName", suite.value)
            evaluate_strong(opened, card, data, name, radii, twin, layers, draws, auc, out, answer)
        else:
            evaluate_weak(opened, card, data, suite, attack or ["fgsm", "pgd", "cw"], auc, modality, out, answer)
    answer.end()
