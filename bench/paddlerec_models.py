"""PaddleRec's models as bench/paddlerec.py runs them: what is changed in each, and what its rows have.

An edit names a place in a file of theirs and what stands there instead; a layer is an edit of the statement
`self.NAME = paddle.nn.Embedding(..)`. Nothing of theirs is here but the few words by which a place is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FLOATS, CATEGORIES, HISTORY = 13, 26, 10


@dataclass(frozen=True)
class Edit:
    """old: words of the file; new: what they become, everywhere in it."""

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        if self.old not in text:
            raise ValueError(f"{self.file} has no {self.old!r}")
        return text.replace(self.old, self.new)

    @property
    def lines(self) -> int:
        return max(1, len(self.new.splitlines()))


@dataclass(frozen=True)
class Layer:
    """self.`name` becomes a SparseEmbedding of this width (an expression of theirs) in `table`."""

    name: str
    width: str
    table: str
    label: str | None = "label"
    file: str = "net.py"
    lines: int = 1

    def apply(self, text: str) -> str:
        found = re.search(rf"self\.{self.name} = paddle\.nn\.Embedding\(", text)
        if found is None:
            raise ValueError(f"{self.file} has no paddle.nn.Embedding {self.name}")
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        layer = f"SparseEmbedding(10, {self.width}, {self.table!r}, {self.label!r})"
        text = f"{text[: found.start()]}self.{self.name} = {layer}{text[end:]}"
        line = "from sparse_layers import SparseEmbedding\n"
        return text if line in text else re.sub(r"^(?=import paddle)", line, text, count=1, flags=re.MULTILINE)


#: Of Criteo's rows.
SLOTS = tuple(f"C{n}" for n in range(1, CATEGORIES + 1))


@dataclass(frozen=True)
class Model:
    """folder: below models/. widths: of the tables' embeddings. slots: names of the slot feeds, in order; one that
    begins with hist has up to HISTORY values a row. counts: values a row of slots that have several. dense: by name,
    the number of floats. labels: by name, binary. cvm: whether the tables give show and click. hyper: over those of its
    config. files: of other folders, by the name they get. sparse_rate: learning rate of the tables. note: what one must
    know of the change."""

    name: str
    folder: str
    widths: Mapping[str, int]
    edits: tuple[Edit | Layer, ...] = ()
    slots: tuple[str, ...] = SLOTS
    counts: Mapping[str, int] = field(default_factory=dict)
    dense: Mapping[str, int] = field(default_factory=lambda: {"dense_input": FLOATS})
    labels: tuple[str, ...] = ("label",)
    cvm: bool = False
    hyper: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sparse_rate: float = 0.2
    note: str = ""


NUMBERED = tuple(map(str, range(1, CATEGORIES + 1)))
#: Of a table of paddle.nn.Embedding that is no longer looked up, and would be made in memory all the same.
SMALL = {"sparse_feature_number": 10}


def _concatenated(name: str, feeds: str = "sparse_inputs") -> Edit:
    """A look-up of the concatenated ids becomes one of the feeds."""
    return Edit("net.py", f"self.{name}(sparse_inputs_concat)", f"self.{name}({feeds})")


FM = (
    Layer("embedding_one", "1", "first"),
    Layer("embedding", "self.sparse_feature_dim", "second"),
    _concatenated("embedding_one"),
    _concatenated("embedding"),
)


def _of_floats(name: str, layer: str) -> Model:
    """PaddleRec's models of census rows: floats of one-hot ids, two labels."""
    slots = f'*(paddle.static.data(f"C{{n}}", [None, 1], "int64") for n in range(1, {CATEGORIES + 1}))'
    look_up = (
        'look_up = SparseEmbedding(10, 9, "embedding", "label_income")\n'
        "        input_data = paddle.concat([inputs[0], *(look_up(feed) for feed in inputs[3:])], axis=1)"
    )
    import_line = f"import {layer}\nfrom sparse_layers import SparseEmbedding"
    labels = ("label_income", "label_marital")
    return Model(
        name, f"multitask/{name}", {"embedding": 9},
        (
            Edit("static_model.py", f"import {layer}", import_line),
            Edit("static_model.py", "[inputs, label_income, label_marital]", f"[inputs, {', '.join(labels)}, {slots}]"),
            Edit("static_model.py", "input_data = inputs[0]", look_up),
            Edit("static_model.py", f"{layer}(self.feature_size,", f"{layer}(self.feature_size + {9 * CATEGORIES},"),
        ),
        dense={"input": FLOATS}, labels=labels, hyper={"feature_size": FLOATS},
        note="has floats alone: slots beside them",
    )  # fmt: skip


GPUBOX = Edit("net.py", 'if self.sync_mode == "gpubox":', "if True:")

MODELS = (
    Model("dnn", "rank/dnn", {"embedding": 11}, (GPUBOX,), slots=NUMBERED, cvm=True, hyper=SMALL),
    Model("wide_deep", "rank/wide_deep", {"embedding": 11}, (GPUBOX,), slots=NUMBERED, cvm=True, hyper=SMALL),
    Model(
        "dcn",
        "rank/dcn",
        {"embedding": 9},
        (Layer("embedding", "self.sparse_feature_dim", "embedding"), _concatenated("embedding")),
        hyper={"optimizer": {"class": "Adam", "learning_rate": 0.001}},
    ),
    Model(
        "dcn_v2",
        "rank/dcn_v2",
        {"embedding": 9},
        (
            Layer("embedding", "self.sparse_feature_dim", "embedding"),
            Edit("net.py", "            sparse_inputs_concat)", "            sparse_inputs)"),
            Edit("static_model.py", "import DeepCroLayer", "import DCN_V2Layer"),
            Edit("static_model.py", "DeepCroLayer(", "DCN_V2Layer("),
            Edit(
                "static_model.py",
                "self.clip_by_norm, self.l2_reg_cross, self.is_sparse)",
                'self.config.get("hyper_parameters.is_Stacked"), '
                'self.config.get("hyper_parameters.use_low_rank_mixture"), '
                'self.config.get("hyper_parameters.low_rank"), self.config.get("hyper_parameters.num_experts"))',
            ),
            Edit("static_model.py", "pred, l2_loss =", "pred ="),
            Edit("static_model.py", "avg_cost + l2_loss", "avg_cost"),
        ),
        hyper={"sparse_feature_dim": 9, "low_rank": 16, "fc_sizes": [64, 64]},
        files={"static_model.py": "rank/dcn/static_model.py"},
        note="has no static_model.py: that of dcn",
    ),
    Model("deepfm", "rank/deepfm", {"first": 1, "second": 9}, FM),
    Model(
        "deepfefm",
        "rank/deepfefm",
        {"first": 1, "second": 9},
        (
            FM[0],
            FM[1],
            Edit("net.py", "            sparse_inputs_concat)", "            sparse_inputs)"),
            Edit("net.py", "            sparse_inputs_concat\n        )", "            sparse_inputs)"),
            Edit(
                "net.py",
                "self.embedding(\n            dense_inputs_re\n        )",
                "paddle.nn.Embedding(1024, self.sparse_feature_dim)(\n"
                '            paddle.clip(dense_inputs * 100, 0, 1023).astype("int64"))',
            ),
        ),
        slots=SLOTS[:10],
        hyper={"sparse_inputs_slots": 11},
        note="looks up its floats as ids: an embedding of 1,024 rows among the dense parameters; with 10 slots: "
        "the parameters of all 741 pairs of fields take longer to build than config check waits",
    ),
    Model(
        "difm",
        "rank/difm",
        {"first": 1, "second": 20},
        (
            Layer("sparse_embedding", "self.sparse_feature_dim", "second"),
            Layer("sparse_weight", "1", "first"),
            _concatenated("sparse_embedding"),
            _concatenated("sparse_weight"),
        ),
        hyper={"att_factor_dim": 8, "att_head_num": 4},
    ),
    Model("dlrm", "rank/dlrm", {"embedding": 16}, (Layer("embedding", "self.sparse_feature_dim", "embedding"),)),
    Model(
        "ffm",
        "rank/ffm",
        {"first": 1, "second": 9 * (CATEGORIES + FLOATS)},
        (FM[0], Layer("embedding", "self.sparse_feature_dim * self.sparse_num_field", "second"), *FM[2:]),
    ),
    Model("fm", "rank/fm", {"first": 1, "second": 9}, FM),
    Model("gatenet", "rank/gatenet", {"embedding": 9}, (Layer("embedding", "self.sparse_feature_dim", "embedding"),)),
    Model("xdeepfm", "rank/xdeepfm", {"first": 1, "second": 9}, FM),
    Model(
        "logistic_regression",
        "rank/logistic_regression",
        {"embedding": 1},
        (Layer("embedding", "1", "embedding", None),),
        slots=("sparse_input",),
        counts={"sparse_input": CATEGORIES},
        dense={"dense_input": CATEGORIES},
        hyper={"num_field": CATEGORIES},
        sparse_rate=0.001,  # all 26 ids of a row are of one table, and the loss is a sum
    ),
    Model(
        "autoint",
        "rank/autoint",
        {"first": 1, "second": 16},
        (Layer("feature_bias", "1", "first", None), Layer("feature_embeddings", "self.embedding_dim", "second", None)),
        slots=("feat_index",),
        counts={"feat_index": CATEGORIES},
        dense={"feat_value": CATEGORIES},
        hyper={"num_field": CATEGORIES},
        sparse_rate=0.01,  # all 26 ids of a row are of one table
    ),
    Model(
        "slot_dnn",
        "rank/slot_dnn",
        {"embedding": 9},
        slots=tuple(map(str, range(2, CATEGORIES + 2))),
        dense={},
        labels=("click",),
        hyper={
            "slot_num": CATEGORIES,
            "emb_dim": 9,
            "dict_dim": 10,
            "layer_sizes": [64, 32],
        },
    ),
    Model(
        "esmm",
        "multitask/esmm",
        {"embedding": 12},
        (
            Layer("embedding", "self.sparse_feature_dim", "embedding", "ctr"),
            Edit(
                "static_model.py",
                'shape=[None, self.max_len],\n                dtype="int64"',
                'shape=[None, 1], dtype="int64", lod_level=1',
            ),
            Edit("net.py", "            feat_emb = paddle.sum(feat_emb, axis=1)\n", ""),
        ),
        slots=tuple(f"field_{n}" for n in range(23)),
        dense={},
        labels=("ctr", "cvr"),
    ),
    _of_floats("mmoe", "MMoELayer"),
    _of_floats("ple", "PLELayer"),
    _of_floats("share_bottom", "ShareBottomLayer"),
    Model(
        "din",
        "rank/din",
        {"item": 64, "cat": 64, "bias": 1},
        (
            *(
                Layer(f"{which}_{kind}_emb_attr", f"self.{kind}_emb_size", kind, None)
                for which in ("hist", "target")
                for kind in ("item", "cat")
            ),
            Layer("item_b_attr", "1", "bias"),
            Edit(
                "net.py",
                "self.target_item_seq_emb_attr(target_item_seq)",
                f"paddle.tile(paddle.unsqueeze(target_item_emb, 1), [1, {HISTORY}, 1])",
            ),
            Edit(
                "net.py",
                "self.target_cat_seq_emb_attr(target_cat_seq)",
                f"paddle.tile(paddle.unsqueeze(target_cat_emb, 1), [1, {HISTORY}, 1])",
            ),
            Edit("static_model.py", "seq_len = -1", f"seq_len = {HISTORY}"),
            Edit("static_model.py", "[None]", "[None, 1]"),
            Edit(
                "static_model.py",
                'shape=[None, seq_len, 1], dtype="int64")\n        self.data_var.append(mask)',
                'shape=[None, seq_len, 1], dtype="float32")\n        self.data_var.append(mask)',
            ),
            Edit("static_model.py", "[mask] + [target_item_seq] + [target_cat_seq]", "[mask]"),
            Edit("static_model.py", "inputs[6]", "None"),
            Edit("static_model.py", "inputs[7]", "None"),
        ),
        slots=("hist_item_seq", "hist_cat_seq", "target_item", "target_cat"),
        dense={"mask": HISTORY},
        hyper={"item_count": 10, "cat_count": 10},
        note="sequences are padded to a width of their batch: a fixed one, and a mask of floats",
    ),
    Model(
        "dssm",
        "match/dssm",
        {"embedding": 64},
        (
            Edit("static_model.py", "import DSSMLayer", "import DSSMLayer\nfrom sparse_layers import SparseEmbedding"),
            Edit(
                "static_model.py",
                "shape=[-1, self.trigram_d], dtype='float32'",
                "shape=[-1, 1], dtype='int64', lod_level=1",
            ),
            Edit(
                "static_model.py",
                'shape=[-1, self.trigram_d],\n                dtype="float32"',
                'shape=[-1, 1], dtype="int64", lod_level=1',
            ),
            Edit(
                "static_model.py",
                "[query, doc_pos] + doc_negs",
                '[query, doc_pos] + doc_negs + [paddle.static.data("label", [-1, 1], "int64")]',
            ),
            Edit(
                "static_model.py",
                "dssm_model.forward(input, is_infer)",
                "dssm_model.forward(list(map(SparseEmbedding(10, self.trigram_d, 'embedding'), input[:-1])), is_infer)",
            ),
        ),
        slots=("query", "doc_pos", "doc_neg_0"),
        dense={},
        hyper={"trigram_d": 64, "slice_end": 1000000},
        note="has floats alone, and no label: slots of trigrams in their place, and a label",
    ),
)
