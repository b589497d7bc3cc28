"""Runs a training: its steps, states, validations and history, from the last saved state on."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from checkpoints import open_checkpoint, restore
from checkpoints.diagnosis import default_pool1_padding
from checkpoints.files import Notes
from checkpoints.names import logits_pattern
from tools.errors import TrainingError
from tools.runtime.sessions import assign, open_session, session_config
from tools.training.folder.curves import draw_curves
from tools.training.folder.failures import read_failures, write_failures
from tools.training.folder.history import Event, Events, History
from tools.training.folder.record import training_folder
from tools.training.folder.states import BEST, States
from tools.training.graph import TrainingGraph, build_graph
from tools.training.start import Start
from tools.training.validation import Validator

if TYPE_CHECKING:
    from tools.training.fitting import Job

__all__ = ["Training", "run"]

v1 = tf.compat.v1


class Training(NamedTuple):
    """The result of a training.

    output: its folder, which ``open_checkpoint`` takes.
    steps: number of steps done.
    resumed_from: number of those that earlier calls had done.
    last: figures of the last step.
    validation: figures of the last validation; None without images for it.
    best: figures of the best validation.
    failed: the images that could not be used (name → reason).
    """

    output: Path
    steps: int
    resumed_from: int
    last: Event
    validation: Event | None
    best: Event | None
    failed: dict[str, str]


def run(job: "Job", watch: Callable[[Event], None] = lambda event: None) -> Training:
    """Runs a training from its last saved state to its end; raises as ``fit`` does."""
    with training_folder(job.output, job.record, overwrite=job.overwrite):
        done = States(job.output, _notes(job.start), job.plan.settings.keep).last or 0
        if done == job.plan.steps:
            history = History(job.output, done)
            if job.validation is None or history.is_validated(done):
                return _result(job, history, done)
        graph = build_graph(job.start, job.plan)
        config = session_config(job.plan.settings.precision, training=True, threads=job.plan.settings.threads)
        with graph.graph.as_default(), open_session(graph.graph, config) as session:
            return _Run(job, graph, session, watch).finish()


class _Run:
    """A training that runs in a session."""

    def __init__(self, job: "Job", graph: TrainingGraph, session: v1.Session, watch: Callable[[Event], None]) -> None:
        self._job, self._plan, self._graph, self._session, self._watch = job, job.plan, graph, session, watch
        notes = _notes(job.start)
        self._states = States(job.output, notes, job.plan.settings.keep)
        self._best = States(job.output / BEST, notes, keep=1)
        self._begun = self._states.last or 0
        _fill(session, graph, job.start, self._states)
        self._history = History(job.output, self._begun)
        graph.batches.failed.update(read_failures(job.output))
        self._failures = len(graph.batches.failed)

    def finish(self) -> Training:
        """Runs the steps that are left, and returns the result."""
        job, plan = self._job, self._plan
        labelled = job.start.labelled
        rows = np.flatnonzero(labelled.classes >= 0)
        events = Events(job.output, self._begun)
        validator = None if job.validation is None else Validator(job.validation, job.start, plan.settings)
        try:
            if self._begun and plan.is_evaluated(self._begun):
                self._validate(validator, events, self._begun)
            self._graph.batches.begin(self._session, labelled.inputs, rows, labelled.classes, self._begun, plan.steps)
            self._steps(validator, events)
        finally:
            self._states.wait()
            events.close()
            if validator is not None:
                validator.close()
            draw_curves(job.output, self._history.events)
        return _result(job, self._history, self._begun)

    def _steps(self, validator: "Validator | None", events: Events) -> None:
        saved = before = time.monotonic()
        for step in range(self._begun, self._plan.steps):
            event = self._step(step)
            self._history.add(event)
            now = time.monotonic()
            events.add(event, self._plan.settings.batch_size / max(now - before, 1e-9))
            self._watch(event)
            if self._plan.is_evaluated(event.step):
                self._save(event.step)
                self._validate(validator, events, event.step)
                saved = time.monotonic()
            # The next step would end too late.
            elif now - saved + (now - before) >= self._plan.settings.save_seconds:
                self._write_figures()
                self._states.save_later(event.step, self._values())
                saved = now
            before = time.monotonic()

    def _step(self, step: int) -> Event:
        rate = self._plan.learning_rate_at(step)
        try:
            figures, _ = self._session.run((self._graph.figures, self._graph.step), {self._graph.learning_rate: rate})
        except tf.errors.ResourceExhaustedError as error:
            size = self._job.start.image_size
            raise MemoryError(f"a batch of {self._plan.settings.batch_size} images at {size} does not fit") from error
        self._graph.batches.check()
        cross_entropy = float(figures["cross_entropy"])
        # Python sums in a fixed order, and TensorFlow's sum of many losses does not.
        loss = cross_entropy + sum(map(float, figures["penalties"]))
        if not math.isfinite(loss):
            raise self._diverged(step, rate, loss)
        return Event(
            step + 1,
            (step + 1) / self._plan.steps_an_epoch,
            rate,
            loss,
            cross_entropy,
            int(figures["right"]) / self._plan.settings.batch_size,
        )

    def _diverged(self, step: int, rate: float, loss: float) -> TrainingError:
        self._states.wait()
        last = self._states.last
        kept = "no state was saved before" if last is None else f"the state of step {last} remains"
        return TrainingError(
            f"The loss is {loss} at step {step + 1}, with a learning rate of {rate:g}, which is probably too high: "
            f"give learning_rate={rate / 10:g} or warmup_steps, and another folder; {kept}."
        )

    def _values(self) -> dict[str, np.ndarray]:
        values = self._session.run(self._graph.state)
        return {variable.op.name: value for variable, value in zip(self._graph.state, values, strict=True)}

    def _write_figures(self) -> None:
        """Writes the history up to a state, before that is saved."""
        self._history.flush()
        if len(self._graph.batches.failed) > self._failures:
            write_failures(self._job.output, dict(self._graph.batches.failed))
            self._failures = len(self._graph.batches.failed)

    def _save(self, step: int) -> None:
        self._write_figures()
        self._states.wait()
        if not self._states.save(step, self._values()):
            raise self._diverged(step, self._plan.learning_rate_at(step - 1), math.nan)

    def _validate(self, validator: "Validator | None", events: Events, step: int) -> None:
        """Validates a saved state, unless that is in the history; keeps it if it is the best."""
        if validator is None or self._history.is_validated(step):
            return
        metrics = validator.measure(self._states.prefix(step))
        event = Event(
            step,
            step / self._plan.steps_an_epoch,
            val_cross_entropy=metrics.cross_entropy,
            val_top_1=metrics.top_1.value,
            val_top_5=metrics.top_5.value,
        )
        # Before the event is written: whoever finds it there finds the state, too.
        if self._history.best is None or event.val_top_1 > self._history.best.val_top_1:
            self._best.take(self._states, step)
        self._history.add(event)
        self._history.flush()
        events.add(event)
        self._watch(event)


def _result(job: "Job", history: History, begun: int) -> Training:
    steps = [event for event in history.events if not event.is_validation]
    validations = [event for event in history.events if event.is_validation]
    last = validations[-1] if validations else None
    return Training(job.output, job.plan.steps, begun, steps[-1], last, history.best, read_failures(job.output))


def _notes(start: Start) -> Notes:
    padding = start.options.get("pool1_padding") or default_pool1_padding(start.network)
    return Notes(
        network=start.network.name,
        pool1_padding=padding,
        preprocessing=start.preprocessing,
        image_size=start.image_size,
        source=None,
        labels=tuple(start.labelled.names),
    )


def _fill(session: v1.Session, graph: TrainingGraph, start: Start, states: States) -> None:
    """Gives the variables the values of the last state, or else their initial ones and those of the checkpoint."""
    if states.last is not None:
        reader = open_checkpoint(states.prefix(states.last))
        assign(session, graph.state, {variable.op.name: reader.read(variable.op.name) for variable in graph.state})
        return
    session.run(v1.global_variables_initializer())
    if start.reader is not None:
        scope = "" if start.network.family == "resnet_cifar" else start.network.name
        exclude = [logits_pattern(start.network.unit_scope, scope)] if start.new_head else []
        restore(session, start.reader, scope=start.found.scope, exclude=exclude)
    session.run(graph.begin_averages)
