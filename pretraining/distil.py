"""Distils the built-in encoder: one command from text files to a folder that `textclf` loads.

    python -m pretraining.distil --corpus CORPUS_FOLDER --run RUN_FOLDER [--tokens N] [--export FOLDER]

Stages: corpus, fit to the teacher, training, export; each is skipped where its result already lies in RUN_FOLDER, so that
the same command goes on where it was stopped. A larger --tokens goes on from a finished run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import distributed
from torch.nn import functional

from pretraining import corpus as corpora
from pretraining import student
from pretraining.corpus import Batch, Corpus, Mixture
from pretraining.export import export
from pretraining.initialise import initial_weights
from pretraining.teacher import Teacher, TeacherOutput, installed_teacher
from textclf.encoders.checkpoint import MobileBertConfig

# As deep and wide as 12 MB of int8 and 6 ms at length 64 allow; the README has what was compared.
MOBILEBERT_SMALL = MobileBertConfig(
    num_hidden_layers=4,
    hidden_size=384,
    intra_bottleneck_size=384,
    num_attention_heads=12,
    intermediate_size=1024,
    num_feedforward_networks=1,
    key_query_shared_bottleneck=False,
)


@dataclass(frozen=True)
class Settings:
    """`layer_map[i]`: the teacher's layer, from 0, whose output the student's layer i learns. `tokens`: real tokens to see.

    `sentence_scale` makes the first token's target as large as the other tokens' states of the last layer.
    """

    layer_map: tuple[int, ...] = (0, 2, 4, 5)
    tokens: int = 15_000_000
    learning_rate: float = 5e-4
    warmup_tokens: int = 200_000
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    sentence_scale: float = 1.5
    fit_batches: int = 20
    seed: int = 5
    mixture: Mixture = field(default_factory=Mixture)


@dataclass
class Progress:
    """Where a run stands: what to continue from besides the arrays."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    epoch: int = 0
    batch: int = 0


def losses(
    weights: student.Weights, config: MobileBertConfig, inputs: tuple[torch.Tensor, ...], wanted: list[torch.Tensor]
) -> torch.Tensor:
    """→ one loss for the embeddings, one for each layer's token states, then the sentence's squared error and cosine.

    `inputs` are ids, mask, segments; `wanted` the teacher's states for each of the student's, then the sentence vector.
    Squared errors are divided by the variance of what is wanted: 1 is what a constant would give.
    """
    ids, mask, segments = inputs
    states = student.encode(weights, config, ids, mask, segments)
    present = mask[..., None].float()
    after_first = torch.cat([torch.zeros_like(present[:, :1]), present[:, 1:]], 1)
    parts = []
    for number, (state, target) in enumerate(zip(states, wanted, strict=False)):
        rows = after_first if number == len(states) - 1 else present
        parts.append(_error(state.float(), target.float(), rows))
    pooled, sentence = states[-1][:, 0].float(), wanted[-1]
    parts.append(_error(pooled, sentence, torch.ones_like(sentence[:, :1])))
    parts.append(1 - functional.cosine_similarity(pooled, sentence).mean())
    return torch.stack(parts)


def _error(state: torch.Tensor, target: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    count = rows.sum() * target.shape[-1]
    over = tuple(range(target.ndim - 1))
    mean = (target * rows).sum(over) / rows.sum()
    return ((state - target).square() * rows).sum() / (((target - mean).square() * rows).sum() + 1e-6 * count)


def loss_weights(config: MobileBertConfig) -> torch.Tensor:
    """The embeddings' states matter through the layers only; the sentence is what most users of the encoder read."""
    return torch.tensor([0.5, *[1.0] * config.num_hidden_layers, 1.0, 2.0])


class Distillation:
    """Teacher, student, optimiser and progress of one run; `step` does one update."""

    def __init__(
        self,
        teacher: Teacher,
        config: MobileBertConfig,
        settings: Settings,
        device: torch.device,
        *,
        compiled: bool = True,
        workers: int = 1,
    ) -> None:
        self.teacher, self.config, self.settings, self.device = teacher, config, settings, device
        self.workers = workers
        self.weights: dict[str, torch.nn.Parameter] = {}
        self.progress = Progress()
        self.optimiser: torch.optim.Optimizer | None = None
        # Shapes vary with text length: one dynamic program instead of one for each shape.
        self.losses = torch.compile(losses, dynamic=True) if compiled else losses
        self.teach = torch.compile(teacher.__call__, dynamic=True) if compiled else teacher
        self.parts_weights = loss_weights(config).to(device)

    def start(self, weights: dict[str, torch.Tensor]) -> None:
        self.weights = {name: torch.nn.Parameter(value.to(self.device)) for name, value in weights.items()}
        matrices = [value for value in self.weights.values() if value.ndim > 1]
        vectors = [value for value in self.weights.values() if value.ndim == 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=self.settings.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )

    def learning_rate(self) -> float:
        """Linear from 0 over the warm-up, then linear to 0 at the last token."""
        seen, settings = self.progress.tokens, self.settings
        rising = (seen + 1) / settings.warmup_tokens
        falling = (settings.tokens - seen) / max(1, settings.tokens - settings.warmup_tokens)
        return settings.learning_rate * max(0.0, min(rising, falling))

    def step(self, batch: Batch, stop: bool = False) -> tuple[torch.Tensor, bool]:
        """One update; → the parts of the loss before it, on the device, and whether any worker was asked to stop."""
        assert self.optimiser is not None, "start or restore comes first"
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        parts = self.evaluate(batch)
        (parts * self.parts_weights).sum().backward()
        tokens = int(batch.mask.sum())
        if self.workers > 1:
            tokens, stop = self._share(tokens, stop)
        torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self.settings.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.tokens += tokens
        return parts.detach(), stop

    def _share(self, tokens: int, stop: bool) -> tuple[int, bool]:
        """Gives every worker the mean gradient, the tokens of all and whether one wants to stop."""
        gradients = [value.grad for value in self.weights.values() if value.grad is not None]
        facts = torch.tensor([float(tokens), float(stop)], device=self.device)
        everything = torch.cat([*(gradient.flatten() for gradient in gradients), facts])
        distributed.all_reduce(everything)
        start = 0
        for gradient in gradients:
            end = start + gradient.numel()
            gradient.copy_(everything[start:end].view_as(gradient) / self.workers)
            start = end
        return round(everything[-2].item()), everything[-1].item() > 0

    def evaluate(self, batch: Batch) -> torch.Tensor:
        inputs = tuple(torch.from_numpy(part).to(self.device) for part in (batch.ids, batch.mask, batch.segments))
        wanted = self._wanted(self.teach(*inputs))
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.losses(self.weights, self.config, inputs, wanted)

    def _wanted(self, output: TeacherOutput) -> list[torch.Tensor]:
        states = [output.states[0], *(output.states[layer + 1] for layer in self.settings.layer_map)]
        return [*states, output.sentence * self.settings.sentence_scale]

    def save(self, file: Path) -> None:
        assert self.optimiser is not None, "start or restore comes first"
        state = {
            "weights": {name: value.detach() for name, value in self.weights.items()},
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
        }
        temporary = file.with_name(file.name + ".writing")
        torch.save(state, temporary)
        os.replace(temporary, file)

    def restore(self, file: Path) -> None:
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.start(state["weights"])
        assert self.optimiser is not None
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])


def stream(
    corpus: Corpus, settings: Settings, progress: Progress, worker: int = 0, workers: int = 1
) -> Iterator[Batch]:
    """Batches from where the progress stands, over as many epochs as asked for; advances `progress.epoch` and `batch`.

    Of every `workers` batches one is yielded; what is left at the end of an epoch for fewer than all is not used.
    """
    while True:
        epoch = corpora.batches(corpus, settings.mixture, settings.seed, progress.epoch)
        rest = itertools.islice(epoch, progress.batch, None)
        while len(group := list(itertools.islice(rest, workers))) == workers:
            progress.batch += workers
            yield group[worker]
        progress.epoch, progress.batch = progress.epoch + 1, 0


def train(
    run: Distillation, corpus: Corpus, held_out: list[Batch], folder: Path, export_to: Path | None, worker: int = 0
) -> None:
    """Trains to `settings.tokens` or to a SIGTERM or SIGINT, after which the same command goes on where this one stopped.

    The first worker writes `state.pt` every ten minutes and at the end, `log.jsonl`, and an export every half an hour
    and at the end.
    """
    first = worker == 0
    asked_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_stop.set())
    clock = time.monotonic()
    started, saved, exported = clock - run.progress.seconds, clock, clock
    window: list[torch.Tensor] = []
    mark = (clock, run.progress.tokens)
    names = ["embeddings", *(f"layer_{index}" for index in range(run.config.num_hidden_layers)), "sentence", "cosine"]
    with open(folder / "log.jsonl" if first else os.devnull, "a", encoding="utf-8") as log:

        def write(kind: str, values: torch.Tensor, **more: float) -> None:
            parts = {name: round(value, 5) for name, value in zip(names, values.tolist(), strict=True)}
            line = {"kind": kind, "step": run.progress.step, "tokens": run.progress.tokens, **more, **parts}
            print(json.dumps(line), file=log, flush=True)

        for batch in stream(corpus, run.settings, run.progress, worker, run.workers):
            rate = run.learning_rate()
            parts, stop = run.step(batch, asked_to_stop.is_set())
            window.append(parts)
            now = time.monotonic()
            run.progress.seconds = now - started
            if run.progress.step % 25 == 0:
                speed = (run.progress.tokens - mark[1]) / (now - mark[0])
                write(
                    "train",
                    torch.stack(window).mean(0),
                    seconds=round(run.progress.seconds),
                    tokens_per_second=round(speed),
                    learning_rate=round(rate, 8),
                )
                window.clear()
                mark = (now, run.progress.tokens)
            if first and run.progress.step % 500 == 0:
                write("held_out", held_out_losses(run, held_out), seconds=round(run.progress.seconds))
            if first and now - saved > 600:
                run.save(folder / "state.pt")
                saved = now
            if first and export_to is not None and now - exported > 1800:
                export_weights(run, export_to)
                exported = now
            if stop or run.progress.tokens >= run.settings.tokens:
                break
        if first:
            write("held_out", held_out_losses(run, held_out), seconds=round(run.progress.seconds))
            run.save(folder / "state.pt")
            if export_to is not None:
                export_weights(run, export_to)


@torch.no_grad()
def held_out_losses(run: Distillation, held_out: list[Batch]) -> torch.Tensor:
    return torch.stack([run.evaluate(batch) for batch in held_out]).mean(0)


def export_weights(run: Distillation, folder: Path) -> None:
    arrays = {name: value.detach().float().cpu().numpy() for name, value in run.weights.items()}
    export(folder, run.config, arrays, run.teacher.vocabulary)


def main() -> None:
    arguments = _arguments()
    arguments.run.mkdir(parents=True, exist_ok=True)
    settings = Settings(tokens=arguments.tokens, seed=arguments.seed, learning_rate=arguments.learning_rate)
    exact = Teacher(installed_teacher(), torch.device("cpu"))
    corpus = _prepared(arguments, exact.vocabulary, settings)[0]
    state = arguments.run / "state.pt"
    if not state.exists():
        # The fit reads an epoch's order that training never comes to.
        batches = itertools.islice(
            corpora.batches(corpus, settings.mixture, settings.seed, 2**31), settings.fit_batches
        )
        run = Distillation(exact, MOBILEBERT_SMALL, settings, torch.device("cpu"))
        run.start(initial_weights(MOBILEBERT_SMALL, exact, settings.layer_map, list(batches), settings.seed))
        run.save(state)
    (arguments.run / "settings.json").write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")

    meeting = (arguments.run / "meeting").absolute()
    meeting.unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    for worker in range(1, arguments.workers):
        context.Process(target=work, args=(worker, arguments, settings, meeting), daemon=True).start()
    work(0, arguments, settings, meeting)


def work(worker: int, arguments: argparse.Namespace, settings: Settings, meeting: Path) -> None:
    """Trains as one of `arguments.workers` processes, each of which takes its share of the batches."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.workers > 1:
        distributed.init_process_group("gloo", f"file://{meeting}", rank=worker, world_size=arguments.workers)
    teacher = Teacher(installed_teacher(), device, torch.bfloat16)
    corpus, held_out = _prepared(arguments, teacher.vocabulary, settings)
    run = Distillation(teacher, MOBILEBERT_SMALL, settings, device, workers=arguments.workers)
    run.restore(arguments.run / "state.pt")
    train(run, corpus, held_out, arguments.run, arguments.export, worker)


def _prepared(arguments: argparse.Namespace, vocabulary: list[str], settings: Settings) -> tuple[Corpus, list[Batch]]:
    sources = {
        "corpus": sorted(arguments.corpus.glob("corpus-*.txt*")),
        "heldout": sorted(arguments.corpus.glob("heldout.txt*")),
    }
    for name, files in sources.items():
        if not files:
            raise SystemExit(f"{arguments.corpus}: holds no {name}*.txt or .txt.xz; expected one passage a line")
        if not (arguments.run / name / "offsets.npy").exists():
            corpora.prepare(files, vocabulary, arguments.run / name, settings.mixture.longest - 2, settings.seed)
    held_out = corpora.batches(corpora.load(arguments.run / "heldout"), settings.mixture, 0, 0)
    return corpora.load(arguments.run / "corpus"), list(itertools.islice(held_out, 12))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pretraining.distil", description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder with corpus-*.txt[.xz] and heldout.txt[.xz]")
    parser.add_argument(
        "--run", type=Path, required=True, help="folder for the prepared corpus, state.pt and log.jsonl"
    )
    parser.add_argument(
        "--tokens", type=int, default=Settings.tokens, help="tokens to see in all (default %(default)s)"
    )
    parser.add_argument("--learning-rate", type=float, default=Settings.learning_rate)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--threads", type=int, help="CPU threads of a worker (default: PyTorch's choice)")
    parser.add_argument("--workers", type=int, default=1, help="processes that share each step (default %(default)s)")
    parser.add_argument("--export", type=Path, help="folder of the built-in encoder to write, also while training")
    return parser.parse_args()


if __name__ == "__main__":
    main()
