"""Runs a training: its steps, states, validations and history, from the last saved state on."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from checkpoints import restore
from checkpoints.diagnosis import default_pool1_padding
from checkpoints.files import Notes
from checkpoints.names import logits_pattern
from tools.errors import TrainingError
from tools.runtime.sessions import assign, open_session, session_config
from tools.training.folder.curves import draw_curves
from tools.training.folder.events import Events
from tools.training.folder.failures import read_failures, write_failures
from tools.training.folder.history import Event, History
from tools.training.folder.record import training_folder
from tools.training.folder.snapshots import Snapshots
from tools.training.folder.states import BEST, NotFiniteError, States, last_step
from tools.training.folder.writing import InBackground
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
    failed: the images that could not be used, those of the validation included (name → reason).
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
    settings = job.plan.settings
    with training_folder(job.output, job.record, overwrite=job.overwrite):
        states = States(job.output, _notes(job.start), settings.keep)
        done, values = states.read() or (0, None)
        if done:
            states.point_to(done)
        snapshots = Snapshots(job.output)
        if (snapshot := snapshots.read()) is not None and snapshot[0] > done:
            done, values = snapshot
        history = History(job.output, done)
        if done == job.plan.steps and (job.validation is None or history.is_validated(done)):
            snapshots.remove()
            return _result(job, history, done)
        graph = build_graph(job.start, job.plan)
        config = session_config(settings.precision, training=True, threads=settings.threads)
        with graph.graph.as_default(), open_session(graph.graph, config) as session:
            _fill(session, graph, job.start, values)
            result = _Run(job, graph, session, states, snapshots, history, watch).finish(done)
        snapshots.remove()  # the last state is a checkpoint
        return result


class _Run:
    """A training that runs in a session, whose variables have the values of the last state."""

    def __init__(
        self,
        job: "Job",
        graph: TrainingGraph,
        session: v1.Session,
        states: States,
        snapshots: Snapshots,
        history: History,
        watch: Callable[[Event], None],
    ) -> None:
        self._job, self._plan, self._graph, self._session, self._watch = job, job.plan, graph, session, watch
        self._states, self._snapshots, self._history = states, snapshots, history
        self._writing = InBackground()
        self._best = States(job.output / BEST, _notes(job.start), keep=1)
        graph.batches.failed.update(read_failures(job.output))
        self._failures = len(graph.batches.failed)

    def finish(self, done: int) -> Training:
        """Runs the steps that are left after the first ``done``, and returns the result."""
        job = self._job
        labelled = job.start.labelled
        with ExitStack() as stack:
            stack.callback(draw_curves, job.output, self._history)
            stack.callback(self._writing.wait)
            self._events = Events(job.output, done)
            stack.callback(self._events.close)
            self._validator = None
            if job.validation is not None:
                self._validator = Validator(job.validation, job.start, self._plan.settings)
                stack.callback(self._validator.close)
            if done and self._plan.is_evaluated(done):
                self._validate(done)
            self._graph.batches.begin(self._session, labelled, done, self._plan.steps)
            self._graph.graph.finalize()  # so that no step can make the graph grow
            try:
                self._steps(done)
            except NotFiniteError as error:
                raise self._diverged(f"{error}") from None
        return _result(job, self._history, done)

    def _steps(self, done: int) -> None:
        settings = self._plan.settings
        saved = kept = before = time.monotonic()
        for step in range(done, self._plan.steps):
            event = self._step(step)
            self._history.add(event)
            now = time.monotonic()
            self._events.add(event, settings.batch_size / max(now - before, 1e-9))
            self._watch(event)
            if event.step == self._plan.steps or (self._validator and self._plan.is_evaluated(event.step)):
                self._write_figures()
                self._writing.wait()
                self._states.save(event.step, self._values())
                self._validate(event.step)
                saved = kept = time.monotonic()
            # The next step would end too late.
            elif now - kept + (now - before) >= settings.checkpoint_seconds:
                self._write_figures()
                self._writing.begin(self._states.save, event.step, self._values())
                saved = kept = now
            elif now - saved + (now - before) >= settings.save_seconds:
                self._write_figures()
                self._writing.begin(self._snapshots.save, event.step, self._values())
                saved = now
            before = time.monotonic()
        self._writing.wait()

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
            raise self._diverged(f"The loss is {loss} at step {step + 1}")
        return Event(
            step + 1,
            (step + 1) / self._plan.steps_an_epoch,
            rate,
            loss,
            cross_entropy,
            int(figures["right"]) / self._plan.settings.batch_size,
        )

    def _diverged(self, what: str) -> TrainingError:
        with suppress(NotFiniteError):
            self._writing.wait()
        self._history.flush()  # for whoever looks for the cause; the same training would drop these steps
        last = last_step(self._job.output)
        kept = f"the state of step {last} remains" if last else "no state was saved before"
        rate = self._plan.learning_rate
        return TrainingError(
            f"{what}, with a learning rate of up to {rate:g}, which is probably too high: give "
            f"learning_rate={rate / 10:g}, or warmup_steps=N, and another folder; {kept}."
        )

    def _values(self) -> dict[str, np.ndarray]:
        values = self._session.run(self._graph.state)
        return {variable.op.name: value for variable, value in zip(self._graph.state, values, strict=True)}

    def _write_figures(self) -> None:
        """Writes the history up to a state, before that is saved."""
        self._history.flush()
        self._events.flush()
        if len(self._graph.batches.failed) > self._failures:
            write_failures(self._job.output, dict(self._graph.batches.failed))
            self._failures = len(self._graph.batches.failed)

    def _validate(self, step: int) -> None:
        """Validates a saved state, unless that is in the history; keeps it if it is the best."""
        if self._validator is None or self._history.is_validated(step):
            return
        metrics = self._validator.measure(self._states.prefix(step), self._graph.batches.failed)
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
        self._events.add(event)
        self._write_figures()
        self._watch(event)


def _result(job: "Job", history: History, begun: int) -> Training:
    last = history.validations[-1] if history.validations else None
    return Training(job.output, job.plan.steps, begun, history.last, last, history.best, read_failures(job.output))


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


def _fill(session: v1.Session, graph: TrainingGraph, start: Start, values: Mapping[str, np.ndarray] | None) -> None:
    """Gives the variables the values of a state; without one, their initial values and those of the checkpoint."""
    if values is not None:
        assign(session, graph.state, values)
        return
    session.run(v1.global_variables_initializer())
    if start.reader is not None:
        network = start.network
        exclude = [logits_pattern(network.unit_scope or network.name, network.scope)] if start.new_head else []
        restore(session, start.reader, scope=start.found.scope, exclude=exclude)
    session.run(graph.begin_averages)
