"""What has to be built or pulled so that the images that are wanted are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .errors import PodlabError, Problem, refuse
from .linux import elf
from .runtime import image_build, image_store, pull
from .runtime.image import Image, from_record, normalise, split
from .runtime.image_recipes import Recipe, built_in
from .runtime.pause import compile_command, compiler, pause_file
from .step import Item, Step, apply

POLICIES = ("Always", "IfNotPresent", "Never")
# Where the layers of an image will be that cannot be known before it is made.
_UNKNOWN = "unbuilt"


class Want(NamedTuple):
    """One image. given: the reference as written. policy: imagePullPolicy, empty for Kubernetes' default by tag."""

    given: str
    policy: str
    state: str


def default_policy(reference: str) -> str:
    """Always for :latest (also when it is not written), else IfNotPresent (pkg/apis/core/v1/defaults.go)."""
    return "Always" if split(reference)[1] == "latest" else "IfNotPresent"


class Planner:
    """Plans images; asks each registry once, however often it plans."""

    def __init__(self, wants: Sequence[Want]) -> None:
        self.wants = wants
        self._remotes: dict[str, pull.Remote] = {}

    def plan(self) -> list[Item]:
        """One item per image. Raises PodlabError with every image that cannot be had, before anything is made."""
        self._refuse_names()
        names = {normalise(want.given): want for want in self.wants}
        have = {name: image_store.read(name) for name in names}
        self._ask_registries(names, have)
        return [self._item(name, want, have[name]) for name, want in names.items()]

    def state(self) -> dict[str, Any]:
        """Reference as given -> image; `present` is false for one that check mode did not make."""
        return {want.given: self._describe(want) for want in self.wants if want.state == "present"}

    def apply(self, items: Sequence[Item]) -> None:
        """Perform the steps as the only writer of the store."""
        with image_store.locked():
            apply([step for item in items for step in item.steps])

    def _refuse_names(self) -> None:
        problems: list[Problem] = []
        for number, want in enumerate(self.wants):
            try:
                normalise(want.given)
            except PodlabError as error:
                problems.extend(problem._replace(place=f"images[{number}].reference") for problem in error.problems)
        refuse(problems, "Some images cannot be had")

    def _ask_registries(self, names: Mapping[str, Want], have: Mapping[str, dict[str, Any] | None]) -> None:
        """Find every image that is unknown, all at once."""
        problems: list[Problem] = []
        questions: list[str] = []
        for name, want in names.items():
            if want.state == "absent" or (have[name] is not None and want.policy != "Always"):
                continue
            if want.policy == "Never":
                if have[name] is None:
                    problems.append(_never(want))
            elif built_in(name) is None and name not in self._remotes:
                questions.append(name)
        if questions:
            from concurrent.futures import ThreadPoolExecutor  # 10 ms that a run without a registry saves

            with ThreadPoolExecutor(max_workers=4) as pool:
                answers = list(pool.map(_ask, questions))
            for name, answer in zip(questions, answers):
                if isinstance(answer, PodlabError):
                    problems.append(Problem("", answer.message))
                else:
                    self._remotes[name] = answer
        refuse(problems, "Some images cannot be had")

    def _item(self, name: str, want: Want, record: Mapping[str, Any] | None) -> Item:
        before = _properties(record)
        if want.state == "absent":
            return Item(name, [] if record is None else [_removal(name)], before, {})
        recipe = built_in(name)
        if recipe is not None:
            step = _build_step(name, want, recipe, record)
            return Item(name, [step] if step else [], before, {"id": _UNKNOWN, "layers": []} if step else before)
        remote = self._remotes.get(name)
        if remote is None or (record is not None and record["id"] == remote.id):
            return Item(name, [], before, before)
        why = "missing" if record is None else f"the registry has another: {record['id']} -> {remote.id}"
        argv = pull.copy_command(name, f"{image_store.layers_dir()}/...")
        step = Step("image.pull", name, tuple(argv), why, pull.pull, {"reference": name})
        return Item(name, [step], before, {"id": remote.id, "layers": list(remote.diff_ids)})

    def _describe(self, want: Want) -> dict[str, Any]:
        name = normalise(want.given)
        record = image_store.read(name)
        if record is not None:
            return {**from_record(name, record).to_dict(), "present": True}
        remote = self._remotes.get(name)
        if remote is not None:
            layers = tuple(image_store.layer_dir(diff_id) for diff_id in remote.diff_ids)
            return {**Image(name, remote.id, layers, remote.config).to_dict(), "present": False}
        recipe = built_in(name)
        config = {} if recipe is None else dict(recipe.config)
        return {**Image(name, _UNKNOWN, (image_store.layer_dir(_UNKNOWN),), config).to_dict(), "present": False}


def _ask(name: str) -> pull.Remote | PodlabError:
    try:
        return pull.inspect(name)
    except PodlabError as error:
        return error


def _never(want: Want) -> Problem:
    message = f'ErrImageNeverPull: Container image "{want.given}" is not present with pull policy of Never'
    return Problem("", message, "Make it present with policy IfNotPresent first.")


def _properties(record: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if record is None else {"id": record["id"], "layers": list(record["layers"])}


def _removal(name: str) -> Step:
    argv = ("rm", image_store.ref_file(name))
    return Step("image.remove", name, argv, "not wanted", image_store.remove, {"reference": name})


def _build_step(name: str, want: Want, recipe: Recipe, record: Mapping[str, Any] | None) -> Step | None:
    if record is None:
        why = "missing"
    elif want.policy == "Never":
        return None
    else:
        why = image_build.stale(record, recipe, ask_apt=want.policy == "Always")
    if not why:
        return None
    arguments = {"recipe": recipe, "reference": name}
    return Step("image.build", name, _build_command(recipe), why, image_build.build, arguments)


def _build_command(recipe: Recipe) -> tuple[str, ...]:
    """The command that does most of what building does."""
    if recipe.pause:
        return tuple(compile_command(compiler() or "cc", "pause.c", pause_file()))
    here = recipe.from_machine and all(elf.located(binary, ("/",)) for binary in recipe.binaries)
    if here:
        return ("cp", "--parents", "-L", *recipe.binaries, *elf.closure(recipe.binaries).files, "layer")
    return ("apt-get", "download", *recipe.packages)
