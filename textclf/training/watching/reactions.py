"""Acts on the troubles that the watchers detect, as the recipe's `training.watchers` says: ignore, warn, stop or fail."""

from __future__ import annotations

from textclf.data.findings.finding import counted
from textclf.errors import TrainingError
from textclf.recipe.settings import TrainingSettings
from textclf.terminal.progress import Progress
from textclf.training.saved.run_folder import RunLog
from textclf.training.saved.saving import TrainingProgress
from textclf.training.watching.watchers import Trouble


class Reactions:
    """The reactions in the training with one seed. A stop is noted in `state.stopped`, and the loop ends."""

    def __init__(self, settings: TrainingSettings, state: TrainingProgress, log: RunLog, progress: Progress) -> None:
        self._settings, self._state, self._log, self._progress = settings, state, log, progress

    def react(self, trouble: Trouble) -> None:
        """Raises TrainingError if the recipe says `fail`, or `stop` before any epoch was complete."""
        state = self._state
        action = getattr(self._settings.watchers, trouble.watcher)
        if action == "ignore" or (action == "warn" and trouble.watcher in state.warnings):
            return
        where = f"step {state.step}" if trouble.watcher in ("not_finite", "learning_rate") else f"epoch {state.epoch}"
        message = f"{where}: {trouble.message}"
        state.warnings[trouble.watcher] = message
        self._log.write("warning", state.step, watcher=trouble.watcher, message=message)
        if action == "fail":
            raise TrainingError(f"{message} (training.watchers.{trouble.watcher} is fail)")
        if action == "warn":
            self._progress.warn(message)
        elif state.epoch == 0:
            raise TrainingError(f"{message}. No epoch was complete, so there is no model to export")
        else:
            self._stop(message)

    def stop_early(self) -> None:
        """Stops after `training.early_stopping` epochs without a better validation result."""
        state, patience = self._state, self._settings.early_stopping
        waited = state.epoch - state.best_epoch
        if patience is not None and waited >= patience and state.epoch < self._settings.epoch_count:
            self._stop(f"no better validation result for {counted(waited, 'epoch')} (training.early_stopping)")

    def _stop(self, reason: str) -> None:
        state = self._state
        state.stopped = reason
        self._log.write("stopped", state.step, reason=reason)
        self._progress.say(f"Training stopped: {reason}. The weights of the best epoch, {state.best_epoch}, are kept")
