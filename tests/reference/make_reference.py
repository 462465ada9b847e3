"""Runs FunASR's own classes on the small models of `recipe` and stores what each stage computed.

In an environment of its own (Python 3.11), from the root of the repository:

    pip install torch==2.13.0 funasr==1.4.16 kaldi-native-fbank==1.23.0 numpy==2.4.6
    python -m tests.reference.make_reference

kaldi-native-fbank is FunASR's feature extractor where torchaudio is absent. Writes beside this file:

- `features.npz`: features of waveforms of several lengths (`whole_<samples>`) and of the streaming variants, as
  indices into their distinct `rows`;
- for each size a folder with `shapes.json` (FunASR's parameter names), `cif_head.npz` (the calibrated weights),
  `offline.npz` (one utterance, full context), `batch.npz` (two, padded) and `stream_<variant>.npz`; for one size also
  `seaco_shapes.json` and `seaco.npz`: the same utterance with the timestamps of `BiCifParaformer` and the hotwords of
  `SeacoParaformer`.

In a streaming file the windows' rows and tokens are joined along the first axis; `rows`, `fires` and `tokens`
count them for each window.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["MODELSCOPE_OFFLINE"] = "1"

import numpy as np
import torch
from funasr import AutoModel  # noqa: F401  # registers the classes
from funasr.register import tables
from funasr.utils.timestamp_tools import ts_prediction_lfr6_standard
from numpy.typing import NDArray

from tests.reference import recipe

OUT = Path(__file__).parent
SHORT = (257, 399, 400, 559, 560, 1200, 4321)
"""Lengths of the waveforms whose features are stored, beside those of the variants."""

Arrays = dict[str, NDArray[Any]]


def create(config: dict[str, Any], vocabulary: int) -> Any:
    """Instantiates FunASR's model."""
    described = {key: value for key, value in config.items() if key not in ("model", "model_conf")}
    described |= {"ctc_weight": 0.0, "predictor_bias": 1} | config.get("model_conf", {})
    model = tables.model_classes[config["model"]](**described, vocab_size=vocabulary)
    return model.eval()


def observe(owner: Any, method: str, seen: Callable[..., None]) -> None:
    """Calls `seen(result, *args, **kwargs)` after each call of a method."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        seen(result, *args, **kwargs)
        return result

    setattr(owner, method, wrapped)


class Reference:
    """FunASR's streaming and full-context models of one size, with the same weights."""

    def __init__(self, size: recipe.Size, cmvn: Path) -> None:
        self.streaming_config = recipe.config(size, streaming=True)
        self.offline_config = recipe.config(size, streaming=False)
        self.streaming = create(self.streaming_config, size.vocabulary)
        self.offline = create(self.offline_config, size.vocabulary)
        frontend = dict(self.streaming_config["frontend_conf"], cmvn_file=str(cmvn))
        self.online_frontend = tables.frontend_classes["WavFrontendOnline"](**frontend)
        self.frontend = tables.frontend_classes["WavFrontend"](**frontend)
        self.vocabulary = recipe.tokens(size)
        self.tokenizer = tables.tokenizer_classes["CharTokenizer"](
            token_list=self.vocabulary, unk_symbol="<unk>", split_with_space=True
        )
        self.wave = recipe.waveform()
        self.shapes = {name: list(value.shape) for name, value in self.streaming.state_dict().items()}
        self._load(recipe.weights(self.shapes))
        self.cif_head = self._calibrate()
        self._load(self.cif_head)
        self._seen: dict[str, list[NDArray[Any]]] = defaultdict(list)
        self._observe_streaming()

    def _load(self, weights: Arrays) -> None:
        tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
        for model in (self.streaming, self.offline):
            missing = model.load_state_dict({**model.state_dict(), **tensors})
            assert not missing.missing_keys

    def features(self, wave: NDArray[np.float32]) -> Any:
        """Features of a whole utterance: (1, T, 560)."""
        return self.frontend(torch.from_numpy(wave)[None], [len(wave)])[0]

    def _calibrate(self) -> Arrays:
        """A CIF head that fires at the rate of speech in both forms.

        Random networks put features of another mean into the predictor in each form (trained ones do not), so
        the direction between the means is taken out of the weights. Scale and bias then bring the input of the
        sigmoid to mean -1.3, deviation 1.2.
        """
        predictor = self.streaming.predictor
        rows = self.features(self.wave)
        hidden = self.offline.encoder(rows, torch.tensor([rows.shape[1]]))[0]
        whole = torch.relu(predictor.cif_conv1d(predictor.pad(hidden.transpose(1, 2))))[0].T
        windows: list[Any] = []
        hook = predictor.cif_conv1d.register_forward_hook(
            lambda module, given, out: windows.append(torch.relu(out)[0, :, :10].T.clone())
        )
        self._run(recipe.VARIANTS["base"])
        hook.remove()
        streamed = torch.cat(windows)
        apart = streamed.mean(0) - whole.mean(0)
        weight = predictor.cif_output.weight[0]
        weight = weight - (weight @ apart) / (apart @ apart) * apart
        both = torch.cat([whole, streamed])
        weight = weight * (1.2 / (both @ weight).std())
        bias = -1.3 - (both @ weight).mean()
        return {
            "predictor.cif_output.weight": weight[None].numpy(),
            "predictor.cif_output.bias": bias[None].numpy(),
        }

    def _run(self, variant: recipe.Variant) -> None:
        wave, cache = self.wave[: variant.samples], dict[str, Any]()
        calls = max(1, -(-len(wave) // variant.call))
        for i in range(calls):
            piece = wave[i * variant.call : (i + 1) * variant.call]
            self.streaming.inference(
                [torch.from_numpy(piece.copy())],
                key=["utterance"],
                tokenizer=self.tokenizer,
                frontend=self.online_frontend,
                cache=cache,
                is_final=i == calls - 1,
                chunk_size=list(variant.chunk),
                encoder_chunk_look_back=variant.encoder_look_back,
                decoder_chunk_look_back=variant.decoder_look_back,
                device="cpu",
                encoder_conf=self.streaming_config["encoder_conf"],
                frontend_conf=self.streaming_config["frontend_conf"],
            )

    def _observe_streaming(self) -> None:
        model, seen = self.streaming, self._seen

        def features(result: Any, *args: Any, **kwargs: Any) -> None:
            seen["features"].append(result[0][0].numpy().copy())

        def encoder(result: Any, *args: Any, **kwargs: Any) -> None:
            seen["encoded"].append(result[0][0].numpy())
            seen["rows"].append(np.array([result[0].shape[1]]))

        def predictor(result: Any, hidden: Any, cache: Any, **kwargs: Any) -> None:
            seen["fires"].append(result[1].numpy())
            seen["residue"].append(cache["cif_alphas"].numpy().reshape(1))
            seen["held"].append(cache["cif_hidden"].numpy().reshape(1, -1))
            if result[1][0]:
                seen["embeddings"].append(result[0][0].numpy())

        def tokens(result: list[str], *args: Any, **kwargs: Any) -> None:
            seen["tokens"].append(np.array([len(result)]))
            seen["ids"].append(np.array([self.vocabulary.index(token) for token in result], np.int64))

        observe(self.online_frontend, "forward", features)
        observe(model.encoder, "forward_chunk", encoder)
        observe(model.predictor, "forward_chunk", predictor)
        observe(model.decoder, "forward_chunk", lambda out, *_, **__: seen["logits"].append(out[0].numpy()))
        observe(model, "generate_chunk", tokens)
        model.predictor.cif_output.register_forward_hook(
            lambda module, given, out: seen["alpha"].append(torch.sigmoid(out)[0, :, 0].numpy())
        )

    def stream(self, variant: recipe.Variant) -> Arrays:
        """What each stage computed in the windows of a streaming variant."""
        self._seen.clear()
        self._run(variant)
        return {name: np.concatenate(parts) for name, parts in self._seen.items()}

    def whole(self, waves: list[NDArray[np.float32]]) -> Arrays:
        """What each stage computed for whole utterances in one padded batch (B, T, …)."""
        model = self.offline
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True)
        rows, lengths = self.frontend(padded, [len(wave) for wave in waves])
        encoded, lengths = model.encode(rows, lengths)
        alphas: list[Any] = []
        hook = model.predictor.cif_output.register_forward_hook(
            lambda module, given, out: alphas.append(torch.sigmoid(out)[..., 0])
        )
        embeddings, counts, _, peaks = model.calc_predictor(encoded, lengths)
        hook.remove()
        counts = counts.round().long()
        logits = model.decoder(encoded, lengths, embeddings, counts)[0]
        return {
            "rows": lengths.numpy(),
            "encoded": encoded.numpy(),
            "alpha": alphas[0].numpy(),
            "peaks": peaks.numpy(),
            "fires": counts.numpy(),
            "embeddings": embeddings.numpy(),
            "logits": logits.numpy(),
        }


class SeacoReference:
    """FunASR's SeACo model of one size, with a timestamp head; what it shares with the others has the same weights."""

    def __init__(self, size: recipe.Size, cif_head: Arrays) -> None:
        self.model = create(recipe.config(size, streaming=False, model="SeacoParaformer"), size.vocabulary)
        self.shapes = {name: list(value.shape) for name, value in self.model.state_dict().items()}
        weights = recipe.weights(self.shapes) | cif_head
        self.model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self._vocabulary = recipe.tokens(size)

    def whole(self, rows: Any) -> Arrays:
        """What it computes for the features (1, T, 560) of an utterance, without hotwords and with each list of them.

        Times, in milliseconds, are those of the tokens without hotwords, and of them without the last one, which
        stands for the end.
        """
        model = self.model
        encoded, lengths = model.encode(rows, torch.tensor([rows.shape[1]]))
        embeddings, counts, *_ = model.calc_predictor(encoded, lengths)
        counts = counts.round().long()
        lists = {name: [*terms, [model.sos]] for name, terms in recipe.HOTWORD_LISTS.items()}
        found: Arrays = {}
        plain = model._seaco_decode_with_ASF(encoded, lengths, embeddings, counts, hw_list=None)
        for name, terms in lists.items():
            merged = model._seaco_decode_with_ASF(encoded, lengths, embeddings, counts, hw_list=terms)
            found[f"merged_{name}"] = merged.numpy()
            padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(own) for own in terms], batch_first=True)
            own_lengths = torch.tensor([len(own) for own in terms])
            found[f"vectors_{name}"] = model._hotword_representation(padded, own_lengths).numpy()
        *_, alphas, peaks = model.calc_predictor_timestamp(encoded, lengths, counts)
        tokens = [self._vocabulary[i] for i in plain[0].argmax(-1).tolist() if i > 2]
        found |= {"us_alphas": alphas.numpy(), "us_peaks": peaks.numpy(), "plain": plain.numpy()}
        for name, some in (("times", tokens), ("times_short", tokens[:-1])):
            _, times = ts_prediction_lfr6_standard(alphas[0].clone(), peaks[0].clone(), list(some))
            found[name] = np.array(times)
        return found


def write(path: Path, arrays: Arrays) -> None:
    """Stores arrays, floating point ones as float32."""
    stored = {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}
    np.savez_compressed(path, allow_pickle=False, **stored)


def share_rows(features: Arrays) -> Arrays:
    """Stores each row (560,) once, under `rows`, and each array of rows as indices into those."""
    rows, index = np.unique(np.concatenate(list(features.values())), axis=0, return_inverse=True)
    ends = np.cumsum([len(array) for array in features.values()])
    return {"rows": rows, **dict(zip(features, np.split(index.ravel(), ends[:-1]), strict=True))}


def main() -> None:
    """Writes all files."""
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as folder:
        cmvn = Path(folder) / "am.mvn"
        recipe.write_cmvn(cmvn)
        features: Arrays = {}
        for name, size in recipe.SIZES.items():
            directory = OUT / name
            directory.mkdir(exist_ok=True)
            reference = Reference(size, cmvn)
            (directory / "shapes.json").write_text(json.dumps(reference.shapes, indent=0) + "\n")
            write(directory / "cif_head.npz", reference.cif_head)
            wave, second = reference.wave, reference.wave[: recipe.SECOND]
            write(directory / "offline.npz", reference.whole([wave]))
            write(directory / "batch.npz", reference.whole([wave, second]))
            lengths = {len(wave), len(second), *SHORT, *(v.samples for v in recipe.VARIANTS.values())}
            features |= {f"whole_{n}": reference.features(wave[:n])[0].numpy() for n in sorted(lengths)}
            for variant, how in recipe.VARIANTS.items():
                stages = reference.stream(how)
                features[f"stream_{variant}"] = stages.pop("features")
                write(directory / f"stream_{variant}.npz", stages)
            if name == recipe.SEACO_SIZE:
                seaco = SeacoReference(size, reference.cif_head)
                (directory / "seaco_shapes.json").write_text(json.dumps(seaco.shapes, indent=0) + "\n")
                write(directory / "seaco.npz", seaco.whole(reference.features(wave)))
        write(OUT / "features.npz", share_rows(features))


if __name__ == "__main__":
    main()
