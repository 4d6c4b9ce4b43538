"""Headlines count and nothing else does; what is judged stands in no training example; the padding is never read."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lessons_lib.tasks import bbc, headlines, language_model
from lessons_lib.training import loop


@pytest.fixture(scope="module")
def data():
    return headlines.examples(headlines.documents("train", 6))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    size = len(language_model.tokenizer())
    return LlamaForCausalLM(
        LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=size)
    ).eval()


def in_fp32(monkeypatch):
    monkeypatch.setattr(loop, "fast_bfloat16", lambda *_: False)


def test_a_row_is_the_articles_start_the_question_the_headline_and_its_end(data):
    tokenizer = language_model.tokenizer()
    for row, number in enumerate(headlines.documents("train", 6)):
        headline, text = bbc.article(number)
        ids = data["input_ids"][row][data["attention_mask"][row].bool()]
        start, written = ids[: headlines.prompt_tokens()], ids[headlines.prompt_tokens() :]
        said = tokenizer.decode(start)
        assert said.endswith("\n\nHeadline:")
        assert " ".join(text.split()).startswith(said.removesuffix("\n\nHeadline:"))
        assert tokenizer.decode(written) == f" {headline}{tokenizer.eos_token}"
    assert len(data["input_ids"][0]) == headlines.prompt_tokens() + headlines.HEADLINE_TOKENS


def test_splits_share_neither_documents_nor_headlines():
    numbers = {split: headlines.documents(split, 200) for split in bbc.SPLITS}
    titles = {split: {bbc.article(number)[0] for number in found} for split, found in numbers.items()}
    for split in ("validation", "test"):
        assert not set(numbers[split]) & set(numbers["train"])
        assert not titles[split] & titles["train"]
    with pytest.raises(ValueError, match="700 documents were asked for; the test split has"):
        headlines.documents("test", 700)


def test_the_loss_is_that_of_the_headlines_tokens(model, data):
    start = headlines.prompt_tokens()
    with torch.no_grad():
        probabilities = model(input_ids=data["input_ids"]).logits.log_softmax(dim=-1)
        expected = [
            -probabilities[row, place - 1, data["input_ids"][row, place]]
            for row in range(6)
            for place in range(start, data["input_ids"].shape[1])
            if data["attention_mask"][row, place]
        ]
        assert headlines.loss(model, data).item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_what_stands_at_the_padding_does_not_matter(model, data):
    filled = data | {"input_ids": data["input_ids"].where(data["attention_mask"].bool(), 7)}
    assert (filled["input_ids"] != data["input_ids"]).any()
    with torch.no_grad():
        assert headlines.loss(model, filled).item() == pytest.approx(headlines.loss(model, data).item(), rel=1e-6)


def test_judging_gives_a_mean_for_each_document_whatever_the_batch(model, data, monkeypatch):
    in_fp32(monkeypatch)
    model.train()
    losses, hits = headlines.judged(model, data, batch_size=4)
    assert model.training
    model.eval()
    counts = data["attention_mask"][:, headlines.prompt_tokens() :].sum(dim=1)
    with torch.no_grad():
        assert (losses * counts).sum() / counts.sum() == pytest.approx(headlines.loss(model, data).item(), rel=1e-5)
        for row in range(6):
            one = {name: tensor[row : row + 1] for name, tensor in data.items()}
            logits, labels = headlines.logits_and_labels(model, one)
            assert losses[row].item() == pytest.approx(headlines.loss(model, one).item(), rel=1e-4)
            right = (logits.argmax(dim=-1) == labels).sum() / counts[row]
            assert hits[row].item() == pytest.approx(right.item())


class Writer(nn.Module):
    """Writes the same tokens after any prompt."""

    def __init__(self, ids):
        super().__init__()
        self.ids = ids

    def generate(self, prompts, **settings):
        assert settings["max_new_tokens"] == headlines.HEADLINE_TOKENS
        assert prompts.shape[1] == headlines.prompt_tokens()
        return torch.cat([prompts, torch.tensor(self.ids).expand(len(prompts), -1)], dim=1)


def test_what_is_written_is_one_line_without_the_end():
    tokenizer = language_model.tokenizer()
    ids = tokenizer(" Rates rise\nThe bank said")["input_ids"] + [tokenizer.eos_token_id]
    assert headlines.write(Writer(ids), headlines.documents("test", 2)) == ["Rates rise", "Rates rise"]
