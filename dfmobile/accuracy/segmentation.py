"""The evaluator ``segmentation``: real trainings of networks with a decoder, judged by mean intersection over union."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfmobile.accuracy.base import Evaluation, EvaluationRequest, Evaluator
from dfmobile.accuracy.segmentation_options import SegmentationOptions
from dfmobile.accuracy.training_folder import WEIGHTS, Progress, finished_evaluation, run_to_end, write_result
from dfmobile.architecture import Architecture, build
from dfmobile.architecture.network import check_input
from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.data.segmentation import SegmentationData, open_segmentation_data
from dfmobile.errors import InputError, import_extra
from dfmobile.export.weights import save_weights
from dfmobile.graph import cost

if TYPE_CHECKING:
    from dfmobile.accuracy.segmentation_trainer import SegmentationTrainer

LABEL = "segmentation training (PyTorch, mIoU on validation images after the last epoch)"
SCENES_LABEL = "segmentation training (PyTorch, mIoU on held-out procedural scenes after the last epoch)"
IMAGE_CHANNELS = 3


class SegmentationEvaluator(Evaluator):
    """Trains each architecture as it is encoded, and validates it on whole images.

    Its folder holds ``checkpoint.npz`` and ``curve.json`` while it trains, ``weights.npz`` and ``evaluation.json``
    when it is done.

    Args:
        options: those of ``SegmentationOptions``.

    Raises:
        InputError: if an option is unknown or out of range.
        MissingExtraError: if torch is not installed.
    """

    name: ClassVar[str] = "segmentation"

    def __init__(self, **options: Any) -> None:
        self.options = SegmentationOptions.make(options)
        import_extra("torch", "train", "training")
        self._data: SegmentationData | None = None

    def data(self) -> SegmentationData:
        """Return the data; opened once.

        Raises:
            InputError: if they cannot be trained on.
            StorageError, FileFormatError: if a file cannot be read or is damaged.
        """
        if self._data is None:
            options = self.options
            self._data = open_segmentation_data(
                options.data,
                image_size=options.image_size,
                validation_images=options.validation_images,
                scene_seed=options.scene_seed,
                cache=None if options.cache is None else Path(options.cache).expanduser(),
                masks=options.teacher_masks,
            )
        return self._data

    def describe(self) -> dict[str, Any]:
        """See base class."""
        from dfmobile.accuracy.teacher import describe_teacher

        teacher = self.options.teacher
        return {
            "name": self.name,
            "label": SCENES_LABEL if "scene_seed" in self.data().source else LABEL,
            "simulated": False,
            "data": self.data().describe(),
            **self.options.describe(),
            "teacher": None if teacher is None else describe_teacher(Path(teacher).expanduser()),
        }

    def trained(self, encoding: str) -> Architecture:
        """Return the architecture of an encoding, checked against the data; it is trained as it is encoded.

        Raises:
            EncodingError: if the encoding is malformed.
            InputError: if it cannot be trained on the data.
        """
        architecture = Architecture.parse(encoding)
        data = self.data()
        if architecture.decoder is None:
            raise InputError(
                f"{architecture} is a classifier, and this training is of segmentation networks",
                hint="add a decoder, for example +seg:24,48,96; evaluator training is for classifiers",
            )
        for what, wanted, given in (
            ("classes", architecture.classes, len(data.train.class_names)),
            ("channels", architecture.in_channels, IMAGE_CHANNELS),
        ):
            if wanted != given:
                raise InputError(
                    f"{architecture} has {wanted} {what}, the data have {given}",
                    hint=f"write {what}={given} in the encoding, or leave it out",
                )
        check_input(architecture, *data.validation.size)
        check_input(architecture, *(self.options.crop_size or data.train.size))
        return architecture

    def evaluate(self, request: EvaluationRequest, progress: Progress | None = None) -> Evaluation:
        """Train to the end, from where an earlier call was interrupted.

        Started by torchrun, all processes train the network together and return the same evaluation; the first one
        writes it and reports progress.

        Args:
            request: what to train; its folder must be empty or of the same request and options.
            progress: called with each new point of the learning curve.

        Raises:
            EncodingError: if the encoding is malformed.
            InputError: if it cannot be trained on the data, or the folder is of another training.
            StorageError, FileFormatError: if data or checkpoint cannot be read or are damaged.
            EvaluationError: if the training diverges; the message has the epoch.
        """
        from dfmobile.accuracy.processes import joined
        from dfmobile.accuracy.segmentation_trainer import SegmentationTrainer
        from dfmobile.accuracy.trainer import fixed_torch

        architecture = self.trained(request.encoding)
        data = self.data()
        identity = self._identity(request, architecture)
        finished = finished_evaluation(request.folder, identity)
        if finished is not None:
            return finished
        with fixed_torch(self.options.threads, request.seed), joined(self.options.device) as processes:
            trainer = SegmentationTrainer(architecture, data, self.options, request.seed, processes)
            run_to_end(trainer, request.folder, identity, progress, writes=processes.writes)
            evaluation = self._evaluation(request, architecture, trainer, str(processes.device.type), processes.count)
            if processes.writes:
                self._save_weights(request.folder / WEIGHTS, trainer, evaluation.details)
                write_result(request.folder, evaluation, identity)
            processes.wait()
        return evaluation

    def _evaluation(
        self,
        request: EvaluationRequest,
        architecture: Architecture,
        trainer: SegmentationTrainer,
        device: str,
        count: int,
    ) -> Evaluation:
        data, last = self.data(), trainer.curve[-1]
        graph = build(architecture, *data.validation.size).graph
        torch = import_extra("torch", "train", "training")
        details = {
            "label": self.describe()["label"],
            "trained_encoding": architecture.text,
            "scaling": "none: trained as encoded",
            "input": f"{data.validation.size[0]}x{data.validation.size[1]}",
            "seed": request.seed,
            "epochs": self.options.epochs,
            "miou": last["validation_accuracy"],
            "pixel_accuracy": last["validation_pixel_accuracy"],
            "iou": last["validation_iou"],
            "macs": cost.macs(graph),
            "params": cost.params(graph),
            "torch": str(torch.__version__),
            "threads": self.options.threads,
            "device": device,
            "processes": count,
        }
        return Evaluation(
            accuracy=last["validation_accuracy"],
            seconds=sum(point["seconds"] for point in trainer.curve),
            details=details,
            curve=trainer.curve,
            weights=request.folder / WEIGHTS,
        )

    def _save_weights(self, path: Path, trainer: SegmentationTrainer, details: dict[str, Any]) -> None:
        data = self.data()
        preprocessing = Preprocessing.normalised(
            tuple(float(value) for value in data.mean),
            tuple(float(value) for value in data.std),
            f"of the training images ({data.source['data']})",
        )
        metadata = {
            "encoding": details["trained_encoding"],
            "input": details["input"],
            "origin": details["label"],
            "data": str(data.source["data"]),
            "classes": json.dumps(list(data.train.class_names)),
            **preprocessing.metadata(),
        }
        save_weights(path, trainer.weights(), metadata)

    def _identity(self, request: EvaluationRequest, architecture: Architecture) -> str:
        """Return a digest of everything that a training's result depends on."""
        parts = [self.describe(), request.encoding, architecture.text, request.seed]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
