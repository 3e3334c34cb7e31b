"""Each experiment of the paper at full size: what it takes, or what is missing for it, and how it is carried out."""

from collections.abc import Callable
from functools import partial

from netdissect.errors import NetworkError
from netdissect.experiments.ablation import AblateConfig, ablate, check_sets
from netdissect.experiments.bench import SCALES
from netdissect.experiments.classes import class_names
from netdissect.experiments.comparison import CompareConfig, compare
from netdissect.experiments.contributions import ContributionConfig, contribution
from netdissect.experiments.full_job import Cost, Job, Part
from netdissect.experiments.heads import find_head
from netdissect.experiments.labeled import labeled_folder, picture_files
from netdissect.experiments.layerwise import LayersConfig, convolutions, layers
from netdissect.experiments.names import VARIANTS, VariantsName
from netdissect.experiments.outcome import Outcome
from netdissect.experiments.ratings import agreement, read_ratings
from netdissect.experiments.recipe import Recipe, random_network, seconds_a_step
from netdissect.experiments.rotations import RotateConfig, rotate, with_rotations
from netdissect.experiments.supervision import TasksConfig, tasks
from netdissect.experiments.svm import Subject, TransferConfig, check_classes, transfer
from netdissect.experiments.switch import switchboard
from netdissect.experiments.task_networks import kept_back
from netdissect.experiments.task_pictures import folder_pictures
from netdissect.experiments.timeline import (
    SnapshotsConfig,
    checkpoint_steps,
    dissected_checkpoints,
    snapshots,
)
from netdissect.experiments.trainings import variant_recipes, variants
from netdissect.models import reload_network, resolve_layers


def _rotate(job: Job) -> Part:
    config = job.config
    asked = RotateConfig(dissect=config.measured([job.layer]), seeds=config.rotations, steps=config.steps)
    rotated = with_rotations(job.first, job.layer, config.rotations, asked.alphas)
    bases = (job.layer, *(name for name in rotated.bases if name not in job.first.bases))
    return Part(
        "rotate",
        (job.dissection(rotated, bases),),
        lambda: rotate(job.first, job.concepts, asked, out=job.out / "rotate", progress=job.progress),
    )


def _layers(job: Job) -> Part:
    names = convolutions(job.first)
    asked = LayersConfig(dissect=job.config.measured(names))
    return Part(
        "layer-profile",
        (job.dissection(job.first, names),),
        lambda: layers(job.first, job.concepts, asked, out=job.out / "layer-profile", progress=job.progress),
    )


def _compare(job: Job) -> Part:
    config = job.config
    asked = CompareConfig(dissect=config.measured(config.layers), layers=config.layers)
    return Part(
        "compare",
        tuple(job.dissection(network, [config.layer_of(index)]) for index, network in enumerate(job.networks)),
        lambda: compare(job.networks, asked, out=job.out / "compare", concepts=job.concepts, progress=job.progress),
    )


def _snapshots(job: Job) -> Part:
    folder, source = job.config.checkpoints, job.first.source
    if folder is None:
        return Part.without(
            "training-dynamics", "needs --checkpoints FOLDER, the first network's weights over its training"
        )
    if source is None:
        return Part.without(
            "training-dynamics", f"{job.first.name} was not loaded by a name to which a checkpoint can be given"
        )
    files = list(checkpoint_steps(folder).values())
    for path in {files[0], files[-1]}:
        reload_network(source.model_copy(update={"weights": str(path)}))

    def run() -> Outcome:
        moments = dissected_checkpoints(
            source, folder, job.concepts, job.config.measured([job.layer]), out=job.out / "training-dynamics",
            progress=job.progress,
        )  # fmt: skip
        return snapshots(moments, SnapshotsConfig(layer=job.layer))

    return Part("training-dynamics", (job.dissection(job.first, [job.layer], len(files)),), run)


def _variants(name: VariantsName, job: Job) -> Part:
    if job.config.train is None:
        return Part.without(name, "needs --train small, to train variants on the drawn world")
    scale = SCALES[job.config.train]
    recipes = variant_recipes(name, scale.recipe)
    seconds = sum(_training_seconds(recipe) for recipe in recipes.values())
    words = (
        f"{', '.join(recipes)}: {len(recipes) * scale.seeds} networks of {scale.recipe.steps} steps on drawn pictures, "
        f"each dissected on {scale.images:,} more; what several variants share is trained once"
    )
    return Part(name, (Cost(words, 0, scale.seeds * seconds),), lambda: variants(name, job.bench))


def _tasks(job: Job) -> Part:
    config = job.config
    if config.train_images is None or config.train is None:
        return Part.without("supervision", "needs --train-images FOLDER of pictures to train on, and --train small")
    scale = SCALES[config.train]
    recipe, number = scale.recipe, len(picture_files(config.train_images))
    number = min(number, recipe.pictures + recipe.held_out)
    if number - kept_back(number, recipe) < recipe.batch_size:
        return Part.without("supervision", f"needs more pictures than the {number} of {config.train_images}")
    wanted = folder_pictures(config.train_images, recipe.size, limit=1).tasks()
    asked = TasksConfig(
        tasks=wanted, recipe=recipe, seeds=tuple(range(scale.seeds)), dissect=config.measured(recipe.layers[-1:])
    )
    networks = len(wanted) * scale.seeds
    words = (
        f"{', '.join(wanted)}: {networks} networks of {recipe.steps} steps on {number:,} pictures, each dissected on "
        f"{len(job.data):,} images"
    )

    def run() -> Outcome:
        shown = folder_pictures(config.train_images or "", recipe.size, limit=recipe.pictures + recipe.held_out)
        return tasks(shown, job.concepts, asked, out=job.out / "supervision", progress=job.progress)

    return Part("supervision", (Cost(words, 0, networks * _training_seconds(recipe)),), run)


def _transfer(job: Job) -> Part:
    if job.config.train_images is None:
        return Part.without("linear-probe", "needs --train-images FOLDER with a folder for each of some other classes")
    shown, asked = labeled_folder(job.config.train_images), TransferConfig(batch_size=job.config.batch_size)
    check_classes(shown, asked)
    words = (
        f"a linear SVM on {len(shown):,} pictures of {len(shown.classes)} classes, for each of {len(job.networks)} "
        "networks, minutes besides where a layer has a thousand units; their dissections are those of compare"
    )
    cost = Cost(words, 0, len(shown) * sum(job.pace(network) for network in job.networks))

    def run() -> Outcome:
        subjects = [
            Subject(network, job.config.layer_of(index), job.dissected(index))
            for index, network in enumerate(job.networks)
        ]
        return transfer(subjects, shown, asked, out=job.out / "linear-probe", progress=job.progress)

    return Part("linear-probe", (cost,), run)


def _agreement(job: Job) -> Part:
    path = job.config.ratings
    if path is None:
        return Part.without("rater-agreement", "needs --ratings CSV, what raters said in the explorer")
    ratings = read_ratings(path)
    return Part("rater-agreement", (Cost(f"{len(ratings):,} ratings"),), lambda: agreement(path))


def _contribution(job: Job) -> Part:
    if job.config.class_images is None:
        return Part.without(
            "attribution", "needs --class-images FOLDER with a folder for each class of the first network"
        )
    try:
        find_head(job.first, job.layer)
    except NetworkError as error:
        return Part.without("attribution", str(error))
    files = picture_files(job.config.class_images)
    asked = ContributionConfig(
        layer=job.layer, classes=class_names(job.first, job.config.classes), batch_size=job.config.batch_size
    )
    return Part(
        "attribution",
        (Cost(f"decisions on {len(files):,} pictures", 0, len(files) * job.pace(job.first)),),
        lambda: contribution(job.first, files, asked, result=job.dissected(0), progress=job.progress),
    )


def _ablate(job: Job) -> Part:
    if job.config.class_images is None:
        return Part.without("ablate", "needs --class-images FOLDER with a folder for each class of the first network")
    names = class_names(job.first, job.config.classes)
    if names is None:
        return Part.without("ablate", f"needs --classes FILE, the names of the outputs of {job.first.name}, one a line")
    shown, units = labeled_folder(job.config.class_images).named(names), resolve_layers(job.first, [job.layer])[0].units
    sizes = tuple(size for size in AblateConfig.model_fields["sizes"].default if size <= units // 2) or (1,)
    asked = AblateConfig(layer=job.layer, sizes=sizes, batch_size=job.config.batch_size)
    check_sets(asked, units, shown)
    how = switchboard(job.first, job.layer).how
    sets = len(sizes) * (3 * len(set(shown.labels.tolist())) + asked.random_sets)
    times = 1 if how == "head" else (units + sets) / 2
    part = {
        "head": "the network runs once", "tail": "what follows the layer runs", "whole": "the whole network runs",
    }[how]  # fmt: skip
    words = f"{units} units and {sets} sets of them off, on half of {len(shown):,} pictures each: {part}"
    words += " at most as long as a whole pass for each" if how == "tail" else "" if how == "head" else " for each"
    return Part(
        "ablate",
        (Cost(words, 0, times * len(shown) * job.pace(job.first)),),
        lambda: ablate(job.first, shown, asked, result=job.dissected(0), out=job.out / "ablate", progress=job.progress),
    )


def _training_seconds(recipe: Recipe) -> float:
    return recipe.steps * seconds_a_step(random_network(recipe), recipe)


PARTS: dict[str, Callable[[Job], Part]] = {
    "rotate": _rotate,
    "layer-profile": _layers,
    "compare": _compare,
    "training-dynamics": _snapshots,
    **{name: partial(_variants, name) for name in VARIANTS},
    "supervision": _tasks,
    "linear-probe": _transfer,
    "rater-agreement": _agreement,
    "attribution": _contribution,
    "ablate": _ablate,
}
"""Name -> what it takes, in the order of the paper."""
