"""Layers, feed-forward neurons and unused words removed for real: the matrices that are left are smaller.

A model is never changed; what comes back is a copy that computes what the model computes with the removed part at zero.
Its shape stands in the fields that a plain transformers config (or a translator's Shape) has, so that it is saved and
reloaded like any other. Attention heads have no such field: see `heads`, whose models `save` and `load` know too.
Sources: V. Sanh et al., DistilBERT, 2019, arXiv:1910.01108, for layers; Z. Wang et al., Structured Pruning of Large
Language Models, 2020, arXiv:1910.04732, for neurons; A. Abdaoui et al., Load What You Need, 2020, arXiv:2010.05609, for
words.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lessons_lib import quiet
from lessons_lib.pruning import heads
from lessons_lib.tasks import topic_classifier
from lessons_lib.tasks.layers import narrow, positions
from lessons_lib.tasks.translator import Translator

CLASSIFIER = "classifier.safetensors"  # all that is not the encoder: the head, and the words that were kept


class TrimmedClassifier(topic_classifier.TopicClassifier):
    """A classifier whose table of word embeddings has fewer rows.

    It takes the ids of the whole vocabulary, as `topic_classifier.tokenize` gives them, and looks up each one's row in
    its own table; a word without a row reads as [UNK]. Its encoder is a plain BertModel over the new ids.
    tokens: int64 (rows,), ascending: the old id of each row. The size of the whole vocabulary and the old id of [UNK]
    stand in encoder.config.whole_vocabulary.
    """

    def __init__(self, encoder: nn.Module, tokens: Tensor, topics: int):
        super().__init__(encoder, topics)
        whole = encoder.config.whole_vocabulary
        self.register_buffer("tokens", tokens.int())
        new_ids = torch.full((whole["size"],), int((tokens == whole["unknown"]).nonzero()))
        new_ids[tokens] = torch.arange(len(tokens))
        self.register_buffer("new_ids", new_ids, persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids: ids of the whole vocabulary, int64 (B, T). attention_mask: (B, T). Returns FP32 (B, topics)."""
        return super().forward(self.new_ids[input_ids], attention_mask)


def keep_layers(model: topic_classifier.TopicClassifier, layers: Sequence[int]) -> topic_classifier.TopicClassifier:
    """A copy of a classifier with these layers only, numbered from 0, in the order in which they are given.

    For translators see `translator.keep_layers`. Raises ValueError for no layer, or one that is not there.
    """
    there = model.encoder.encoder.layer
    if not len(layers) or not set(layers) <= set(range(len(there))):
        raise ValueError(f"layers {list(layers)} cannot be kept: there are 0 ... {len(there) - 1}, and one must stay.")
    config = copy.deepcopy(model.encoder.config)
    shared = {id(model.encoder.config): config}  # by all blocks: what is set in it later reaches each of them
    # What is left out need not be copied first: the copy finds the shorter list in its place.
    kept_blocks = nn.ModuleList(copy.deepcopy(there[number], dict(shared)) for number in layers)
    smaller = copy.deepcopy(model, shared | {id(there): kept_blocks})
    config.num_hidden_layers = len(layers)
    if head_numbers := getattr(config, heads.FIELD, None):
        setattr(config, heads.FIELD, [head_numbers[number] for number in layers])
    return smaller


def neuron_layers(model: nn.Module) -> list[tuple[nn.Linear, nn.Linear]]:
    """The two linear layers around the feed-forward neurons of each block of a classifier or a translator, in order: of
    a translator the encoder's blocks first. Neuron i is row i of the first and column i of the second."""
    if isinstance(model, Translator):
        return [(block.up, block.down) for block in (*model.encoder, *model.decoder)]
    return [(block.intermediate.dense, block.output.dense) for block in model.encoder.encoder.layer]


def prune_neurons(model: nn.Module, keep: Sequence[Tensor]) -> nn.Module:
    """A copy of a classifier or a translator that has these feed-forward neurons only.

    keep: for each block, as `neuron_layers` orders them, the positions of the neurons that stay: int64 (kept,). Equally
    many in every block, since the config has one number for all. Raises ValueError when keep does not fit.
    """
    smaller = copy.deepcopy(model)
    pairs = neuron_layers(smaller)
    sizes = sorted({len(one) for one in keep})
    if len(keep) != len(pairs) or len(sizes) != 1:
        raise ValueError(
            f"keep needs a list of neurons for each of the {len(pairs)} blocks, all of one length; it has "
            f"{len(keep)} lists of {' or '.join(map(str, sizes))} neurons."
        )
    for (first, second), neurons in zip(pairs, keep, strict=True):
        neurons = positions(neurons, first.out_features, "neurons")
        narrow(first, rows=neurons)
        narrow(second, columns=neurons)
    if isinstance(smaller, Translator):
        smaller.shape = replace(smaller.shape, inner=sizes[0])
    else:
        smaller.encoder.config.intermediate_size = sizes[0]
    return smaller


def trim_vocabulary(model: topic_classifier.TopicClassifier, tokens: Tensor) -> TrimmedClassifier:
    """A copy of a classifier that has embeddings for these words only; the special tokens, such as [CLS], always stay.

    tokens: int64, ids of the whole vocabulary in any order, repeated or not; for instance all that occur in training
    texts, topic_classifier.tokenize(texts)["input_ids"].unique(). Other words will read as [UNK]. A trimmed model can
    be trimmed again. Raises ValueError for ids that the vocabulary does not have.
    """
    config = model.encoder.config
    special = topic_classifier.tokenizer()
    whole = getattr(config, "whole_vocabulary", {"size": config.vocab_size, "unknown": special.unk_token_id})
    if not tokens.numel() or tokens.is_floating_point() or int(tokens.min()) < 0 or int(tokens.max()) >= whole["size"]:
        raise ValueError(f"tokens must be ids from 0 to {whole['size'] - 1}, at least one; models.tokenize gives such.")
    there = model.tokens.long() if isinstance(model, TrimmedClassifier) else torch.arange(whole["size"])
    stays = torch.isin(there, torch.cat([tokens.flatten(), torch.tensor(special.all_special_ids)]))
    token_ids, table = there[stays], model.encoder.embeddings.word_embeddings
    padding = int((token_ids == special.pad_token_id).nonzero())
    rows = nn.Embedding.from_pretrained(table.weight.detach()[stays], freeze=False, padding_idx=padding)
    rows.weight.requires_grad_(table.weight.requires_grad)
    encoder = copy.deepcopy(model.encoder, {id(table): rows})
    encoder.config.vocab_size, encoder.config.pad_token_id = len(token_ids), padding
    encoder.config.whole_vocabulary = whole
    trimmed = TrimmedClassifier(encoder, token_ids, model.head.out_features)
    trimmed.head.load_state_dict(model.head.state_dict())
    trimmed.head.requires_grad_(model.head.weight.requires_grad)
    return trimmed.train(model.training)


def save(model: topic_classifier.TopicClassifier, folder: str | os.PathLike) -> None:
    """Write a classifier into a folder: config.json and model.safetensors of its encoder, as transformers writes them,
    and a file with the head and the kept words. `load` reads it back."""
    with quiet.loading():
        model.encoder.save_pretrained(folder)
    rest = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("encoder.")}
    save_file(rest, Path(folder) / CLASSIFIER)


def load(folder: str | os.PathLike) -> topic_classifier.TopicClassifier:
    """The classifier that `save` wrote, in eval mode: any of its layers, neurons, words and heads may be missing.

    Raises ValueError for a folder that holds no classifier.
    """
    from transformers import BertConfig, BertModel

    if not (Path(folder) / CLASSIFIER).is_file():
        raise ValueError(f"{folder} holds no {CLASSIFIER}: give a folder that structured.save wrote.")
    config, rest = BertConfig.from_pretrained(folder), load_file(Path(folder) / CLASSIFIER)
    topics, tokens = len(rest["head.bias"]), rest.get("tokens")
    with torch.random.fork_rng():  # the random weights that are about to be replaced leave no trace
        encoder = BertModel(config, add_pooling_layer=False)
        for block, head_numbers in zip(encoder.encoder.layer, getattr(config, heads.FIELD, ()), strict=False):
            heads.keep(block.attention, head_numbers)
        model = (
            topic_classifier.TopicClassifier(encoder, topics)
            if tokens is None
            else TrimmedClassifier(encoder, tokens.long(), topics)
        )
    encoder.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    model.head.load_state_dict({"weight": rest["head.weight"], "bias": rest["head.bias"]})
    return model.eval()
