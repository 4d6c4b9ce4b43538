"""What stays when a part of a model goes: the heads and neurons that matter most, the words that are used."""

from functools import lru_cache

from torch import Tensor, nn

from lessons_lib import corpora, importance, models, sparse_training, structured, study_magnitude, study_structure

SENTENCES = 256  # by which heads and neurons of a classifier are scored


def strongest(task: str, model: nn.Module, part: str, count: int) -> list[Tensor]:
    """The `count` "heads" or "neurons" of each block that matter most: int64 (count,), ascending, for each block.

    In a classifier by the gradients of their gates, as in lesson 15. In a translator neuron j by what it says: its
    values over the tokens of some training texts, times its weights into the next layer, ||X_j||_2 · ||W_:j||_2.
    Raises ValueError unless every block has so many.
    """
    if task == "classifier":
        batches = study_structure.drawn(SENTENCES, seed=0)
        scores = [importance.from_gates(block) for block in importance.gate_gradients(model, batches, part)]
    else:
        layers = {layer: name for name, layer in model.named_modules()}
        weights = {f"{layers[second]}.weight": second.weight for _, second in structured.neuron_layers(model)}
        norms = sparse_training.input_norms(model, weights, study_magnitude.calls(task, model, seed=0))
        scores = [norms[name] * weight.detach().norm(dim=0) for name, weight in weights.items()]
    fewest = min(map(len, scores))
    if not 1 <= count <= fewest:
        raise ValueError(f"{count} {part} cannot stay: a block has {fewest}, and one must stay.")
    return [one.argsort(descending=True, stable=True)[:count].sort().values for one in scores]


@lru_cache(maxsize=1)
def seen_tokens() -> Tensor:
    """Every id that occurs in the training sentences of the classifier, int64 (n,)."""
    return models.tokenize(corpora.sentences("train")["text"])["input_ids"].unique()
