"""Each experiment of the paper at full size: what it takes, or what is missing for it, and how it is carried out."""

from collections.abc import Callable
from functools import partial

from netdissect.errors import NetworkError
from netdissect.experiments.ablate.experiment import AblateConfig, ablate, check_sets
from netdissect.experiments.attribution.experiment import AttributionConfig, attribution
from netdissect.experiments.compare.experiment import CompareConfig, compare
from netdissect.experiments.layer_profile.experiment import LayerProfileConfig, convolutions, layer_profile
from netdissect.experiments.linear_probe.experiment import LinearProbeConfig, Subject, check_classes, linear_probe
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.rater_agreement.experiment import rater_agreement, read_ratings
from netdissect.experiments.reproduce.job import Cost, ExperimentPart, ReproduceJob
from netdissect.experiments.rotate.experiment import RotateConfig, rotate, with_rotations
from netdissect.experiments.supervision.experiment import SupervisionConfig, supervision
from netdissect.experiments.training_conditions.experiment import condition_configs, training_conditions
from netdissect.experiments.training_dynamics.experiment import (
    TrainingDynamicsConfig,
    checkpoint_steps,
    dissected_checkpoints,
    training_dynamics,
)
from netdissect.models import reload_network, resolve_layers
from netdissect.models.surgery.linear_head import find_head
from netdissect.models.surgery.unit_ablation import unit_ablator
from netdissect.training.choices import CONDITIONS, ConditionName
from netdissect.training.class_names import class_names
from netdissect.training.classification_data import image_files, labeled_folder
from netdissect.training.scene_net import TrainConfig, random_network, seconds_a_step
from netdissect.training.task_images import folder_images
from netdissect.training.task_networks import kept_back
from netdissect.training.workspace import SCALES


def _rotate(job: ReproduceJob) -> ExperimentPart:
    config = job.config
    asked = RotateConfig(dissect=config.measured([job.layer]), seeds=config.rotations, steps=config.steps)
    rotated = with_rotations(job.first, job.layer, config.rotations, asked.alphas)
    bases = (job.layer, *(name for name in rotated.bases if name not in job.first.bases))
    return ExperimentPart(
        "rotate",
        (job.dissection(rotated, bases),),
        lambda: rotate(job.first, job.concepts, asked, out=job.out / "rotate", progress=job.progress),
    )


def _layers(job: ReproduceJob) -> ExperimentPart:
    names = convolutions(job.first)
    asked = LayerProfileConfig(dissect=job.config.measured(names))
    return ExperimentPart(
        "layer-profile",
        (job.dissection(job.first, names),),
        lambda: layer_profile(job.first, job.concepts, asked, out=job.out / "layer-profile", progress=job.progress),
    )


def _compare(job: ReproduceJob) -> ExperimentPart:
    config = job.config
    asked = CompareConfig(dissect=config.measured(config.layers), layers=config.layers)
    return ExperimentPart(
        "compare",
        tuple(job.dissection(network, [config.layer_of(index)]) for index, network in enumerate(job.networks)),
        lambda: compare(job.networks, asked, out=job.out / "compare", concepts=job.concepts, progress=job.progress),
    )


def _snapshots(job: ReproduceJob) -> ExperimentPart:
    folder, source = job.config.checkpoints, job.first.source
    if folder is None:
        return ExperimentPart.without(
            "training-dynamics", "needs --checkpoints FOLDER, the first network's weights over its training"
        )
    if source is None:
        return ExperimentPart.without(
            "training-dynamics", f"{job.first.name} was not loaded by a name to which a checkpoint can be given"
        )
    files = list(checkpoint_steps(folder).values())
    for path in {files[0], files[-1]}:
        reload_network(source.model_copy(update={"weights": str(path)}))

    def run() -> ExperimentResult:
        moments = dissected_checkpoints(
            source, folder, job.concepts, job.config.measured([job.layer]), out=job.out / "training-dynamics",
            progress=job.progress,
        )  # fmt: skip
        return training_dynamics(moments, TrainingDynamicsConfig(layer=job.layer))

    return ExperimentPart("training-dynamics", (job.dissection(job.first, [job.layer], len(files)),), run)


def _variants(name: ConditionName, job: ReproduceJob) -> ExperimentPart:
    if job.config.train is None:
        return ExperimentPart.without(name, "needs --train small, to train variants on the drawn world")
    scale = SCALES[job.config.train]
    recipes = condition_configs(name, scale.recipe)
    seconds = sum(_training_seconds(recipe) for recipe in recipes.values())
    words = (
        f"{', '.join(recipes)}: {len(recipes) * scale.seeds} networks of {scale.recipe.steps} steps on drawn pictures, "
        f"each dissected on {scale.images:,} more; what several variants share is trained once"
    )
    return ExperimentPart(name, (Cost(words, 0, scale.seeds * seconds),), lambda: training_conditions(name, job.bench))


def _tasks(job: ReproduceJob) -> ExperimentPart:
    config = job.config
    if config.train_images is None or config.train is None:
        return ExperimentPart.without(
            "supervision", "needs --train-images FOLDER of pictures to train on, and --train small"
        )
    scale = SCALES[config.train]
    recipe, number = scale.recipe, len(image_files(config.train_images))
    number = min(number, recipe.pictures + recipe.held_out)
    if number - kept_back(number, recipe) < recipe.batch_size:
        return ExperimentPart.without("supervision", f"needs more pictures than the {number} of {config.train_images}")
    wanted = folder_images(config.train_images, recipe.size, limit=1).tasks()
    asked = SupervisionConfig(
        tasks=wanted, recipe=recipe, seeds=tuple(range(scale.seeds)), dissect=config.measured(recipe.layers[-1:])
    )
    networks = len(wanted) * scale.seeds
    words = (
        f"{', '.join(wanted)}: {networks} networks of {recipe.steps} steps on {number:,} pictures, each dissected on "
        f"{len(job.data):,} images"
    )

    def run() -> ExperimentResult:
        shown = folder_images(config.train_images or "", recipe.size, limit=recipe.pictures + recipe.held_out)
        return supervision(shown, job.concepts, asked, out=job.out / "supervision", progress=job.progress)

    return ExperimentPart("supervision", (Cost(words, 0, networks * _training_seconds(recipe)),), run)


def _transfer(job: ReproduceJob) -> ExperimentPart:
    if job.config.train_images is None:
        return ExperimentPart.without(
            "linear-probe", "needs --train-images FOLDER with a folder for each of some other classes"
        )
    shown, asked = labeled_folder(job.config.train_images), LinearProbeConfig(batch_size=job.config.batch_size)
    check_classes(shown, asked)
    words = (
        f"a linear SVM on {len(shown):,} pictures of {len(shown.classes)} classes, for each of {len(job.networks)} "
        "networks, minutes besides where a layer has a thousand units; their dissections are those of compare"
    )
    cost = Cost(words, 0, len(shown) * sum(job.pace(network) for network in job.networks))

    def run() -> ExperimentResult:
        subjects = [
            Subject(network, job.config.layer_of(index), job.dissected(index))
            for index, network in enumerate(job.networks)
        ]
        return linear_probe(subjects, shown, asked, out=job.out / "linear-probe", progress=job.progress)

    return ExperimentPart("linear-probe", (cost,), run)


def _agreement(job: ReproduceJob) -> ExperimentPart:
    path = job.config.ratings
    if path is None:
        return ExperimentPart.without("rater-agreement", "needs --ratings CSV, what raters said in the explorer")
    ratings = read_ratings(path)
    return ExperimentPart("rater-agreement", (Cost(f"{len(ratings):,} ratings"),), lambda: rater_agreement(path))


def _contribution(job: ReproduceJob) -> ExperimentPart:
    if job.config.class_images is None:
        return ExperimentPart.without(
            "attribution", "needs --class-images FOLDER with a folder for each class of the first network"
        )
    try:
        find_head(job.first, job.layer)
    except NetworkError as error:
        return ExperimentPart.without("attribution", str(error))
    files = image_files(job.config.class_images)
    asked = AttributionConfig(
        layer=job.layer, classes=class_names(job.first, job.config.classes), batch_size=job.config.batch_size
    )
    return ExperimentPart(
        "attribution",
        (Cost(f"decisions on {len(files):,} pictures", 0, len(files) * job.pace(job.first)),),
        lambda: attribution(job.first, files, asked, result=job.dissected(0), progress=job.progress),
    )


def _ablate(job: ReproduceJob) -> ExperimentPart:
    if job.config.class_images is None:
        return ExperimentPart.without(
            "ablate", "needs --class-images FOLDER with a folder for each class of the first network"
        )
    names = class_names(job.first, job.config.classes)
    if names is None:
        return ExperimentPart.without(
            "ablate", f"needs --classes FILE, the names of the outputs of {job.first.name}, one a line"
        )
    shown, units = labeled_folder(job.config.class_images).named(names), resolve_layers(job.first, [job.layer])[0].units
    sizes = tuple(size for size in AblateConfig.model_fields["sizes"].default if size <= units // 2) or (1,)
    asked = AblateConfig(layer=job.layer, sizes=sizes, batch_size=job.config.batch_size)
    check_sets(asked, units, shown)
    mode = unit_ablator(job.first, job.layer).mode
    sets = len(sizes) * (3 * len(set(shown.labels.tolist())) + asked.random_sets)
    times = 1 if mode == "linear" else (units + sets) / 2
    work = {
        "linear": "the network runs once",
        "partial": "what follows the layer runs at most as long as a whole pass for each",
        "full": "the whole network runs for each",
    }[mode]
    words = f"{units} units and {sets} sets of them off, on half of {len(shown):,} pictures each: {work}"
    return ExperimentPart(
        "ablate",
        (Cost(words, 0, times * len(shown) * job.pace(job.first)),),
        lambda: ablate(job.first, shown, asked, result=job.dissected(0), out=job.out / "ablate", progress=job.progress),
    )


def _training_seconds(recipe: TrainConfig) -> float:
    return recipe.steps * seconds_a_step(random_network(recipe), recipe)


PARTS: dict[str, Callable[[ReproduceJob], ExperimentPart]] = {
    "rotate": _rotate,
    "layer-profile": _layers,
    "compare": _compare,
    "training-dynamics": _snapshots,
    **{name: partial(_variants, name) for name in CONDITIONS},
    "supervision": _tasks,
    "linear-probe": _transfer,
    "rater-agreement": _agreement,
    "attribution": _contribution,
    "ablate": _ablate,
}
"""Name -> what it takes, in the order of the paper."""
