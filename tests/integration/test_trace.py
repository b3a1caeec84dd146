"""`python -m stp.trace`: what the page says about a rollout is what happened, and nothing on it is markup but its own."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path

import pytest
import torch

from stp.errors import UserError
from stp.models.codec import Codec
from stp.models.options import Model
from stp.models.policy import load_policy
from stp.samplers import Standard, Stp
from stp.tasks import Countdown
from stp.trace import trace
from stp.trace.trace import denoise_row, page, record, visible
from stp.types import Draws
from tests.config import composed, told
from tests.integration.runs import run
from tests.toys import EOS, MASK, PROMPT, Recording, anchors, in_context, prompts

ROWS, LENGTH = 5, 12
ELIGIBLE = [list(range(12)), [0, 3, 4, 5, 10], [], [11], list(range(6))]
SAMPLERS = [
    Standard(LENGTH, 12, 4, 1.0),
    Standard(LENGTH, 7, 4, 0.0),
    Stp(LENGTH, 12, 4, 1.0, gamma=0.0, t_cutoff=0.0),
    Stp(LENGTH, 9, 4, 0.7, gamma=0.25, t_cutoff=0.0),
    Stp(LENGTH, 12, 4, 0.9, gamma=0.25, t_cutoff=0.2),
    Stp(LENGTH, 4, 3, 1.0, gamma=0.4, t_cutoff=0.3, select="random"),
]


@pytest.mark.parametrize("eos", [-torch.inf, 2.5])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_what_is_shown_is_what_happened(sampler, eos):
    earlier, draws = anchors(ROWS, LENGTH, ELIGIBLE), Draws(3, ROWS)
    denoise = in_context(LENGTH, seed=1, eos=eos)
    together = sampler(denoise, prompts(ROWS), draws, earlier)
    start = sampler.start(earlier, draws)
    ended = fills = 0
    for row in range(ROWS):
        watched = Recording(denoise)
        done = denoise_row(watched, sampler, prompts(ROWS), start, draws, row)
        assert done.ids_L == together.response_BL[row].tolist()  # watching, and being alone, changes nothing
        assert done.nfe == together.nfe and done.nfe_run == len(watched.calls)
        assert [place for place, forward in enumerate(done.forward_L) if forward == 0] == (
            start.fixed_BL[row].nonzero().flatten().tolist()
        )
        closed = [place for place, forward in enumerate(done.forward_L) if forward is None]
        assert all(place >= done.until_eos and done.ids_L[place] == EOS for place in closed)
        ended += bool(closed)

        for number, call in enumerate(watched.calls, start=1):
            # the tokens of every forward follow from when each was revealed: so each was revealed once, and then
            revealed = [forward is not None and forward < number for forward in done.forward_L]
            state = [token if known else MASK for token, known in zip(done.ids_L, revealed, strict=True)]
            assert call.ids_BS[0].tolist() == PROMPT + state
            logits_LV = denoise.logits(torch.tensor([PROMPT + state]))[0, len(PROMPT) :].clone()
            logits_LV[:, MASK] = -torch.inf
            for place in (i for i, forward in enumerate(done.forward_L) if forward == number):
                p_V = logits_LV[place].softmax(dim=0)
                assert done.confidence_L[place] == pytest.approx(float(p_V[done.ids_L[place]]), rel=1e-5)
                if number == done.fill or sampler.temperature == 0:
                    assert done.ids_L[place] == int(p_V.argmax())

        ends = list(accumulate(forwards for _, _, forwards in done.windows))
        for (begin, end, forwards), last in zip(done.windows, ends, strict=True):
            inside = [forward for forward in done.forward_L[begin:end] if forward not in (0, None, done.fill)]
            assert all(last - forwards < forward <= last for forward in inside)  # no token before its block's turn
        assert done.fill == (done.nfe if start.fill and done.nfe_run == done.nfe else None)
        fills += done.fill is not None
        assert all((c is None) == (f in (0, None)) for c, f in zip(done.confidence_L, done.forward_L, strict=True))
    assert ended or eos < 0 or len(start.windows) < 2
    assert bool(fills) == start.fill or eos > 0


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_a_cache_is_watched_too(cache):
    """What each forward of a block revealed adds up to the rollout."""
    policy, tokenizer = load_policy(Model(), trainable=False)
    asked = Codec(tokenizer, "", 200).prompts(Countdown().problems("train")[:2])
    sampler, draws = Standard(24, 12, 8, 1.0, cache=cache), Draws(0, 2)
    together, start = sampler(policy, asked, draws), sampler.start(None, draws)
    for row in range(2):
        done = denoise_row(policy, sampler, asked, start, draws, row)
        assert done.ids_L == together.response_BL[row].tolist()
        shown = [forward for forward in done.forward_L if forward is not None]
        assert set(shown) == set(range(1, done.nfe_run + 1)) and len(shown) >= done.until_eos


def test_nothing_pruned_is_the_standard_sampler():
    standard, pruned = SAMPLERS[0], SAMPLERS[2]
    draws, denoise = Draws(3, ROWS), in_context(LENGTH, seed=1, eos=1.0)
    one, other = (denoise_row(denoise, s, prompts(ROWS), s.start(None, draws), draws, 2) for s in (standard, pruned))
    assert one == other


HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<!--<script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "&lt;b&gt;",
    "{{data}}{{title}}",
    "]]>\\u003c/script>'\"`${1}",
    "a\x00b\x1b[31m\x7f\x85",
    "\u202eright to left\u2066\u200b\ufeff",
    "\u2028\u2029\ud800",
    "π⏎😀",
]


def hostile_page():
    length = len(HOSTILE)
    done = denoise_row(
        in_context(length, seed=1, eos=-torch.inf), Standard(length, length, 5, 1.0), prompts(1),
        Standard(length, length, 5, 1.0).start(None, Draws(0, 1)), Draws(0, 1), 0,
    )  # fmt: skip
    texts = iter(HOSTILE)
    shown = record("Standard", done, lambda _: next(texts), "".join(HOSTILE), {"".join(HOSTILE): 0.5}, False)
    problem = {"id": "".join(HOSTILE), "question": "\n".join(HOSTILE), "runs": [shown]}
    return page("".join(HOSTILE), HOSTILE, [problem]), problem


class Parsed(HTMLParser):
    """Tags, attributes, and the text inside the elements that have an id, or of a class."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.scripts, self.chips, self.by_id = [], [], [], [], {}
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.attributes += found.items()
        if tag not in ("meta", "input", "br"):
            self.open.append((tag, found))
        if "token" in found.get("class", "").split() and "title" in found:
            self.chips.append([found["class"].split(), found["title"], ""])

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        tag, found = self.open[-1] if self.open else ("", {})
        if tag == "script":
            self.scripts.append((found, data))
        if found.get("id"):
            self.by_id[found["id"]] = self.by_id.get(found["id"], "") + data
        if "token" in found.get("class", "").split() and "title" in found:
            self.chips[-1][2] += data


def data_of(text):
    (data,) = [json.loads(body) for found, body in Parsed(text).scripts if found.get("type") == "application/json"]
    return data


def test_hostile_text_stays_text():
    text, problem = hostile_page()
    parsed = Parsed(text)
    assert parsed.tags.count("script") == 2 and "img" not in parsed.tags and "b" not in parsed.tags
    data = data_of(text)
    assert data["facts"] == list(map(visible, HOSTILE)) and data["title"] == visible("".join(HOSTILE))
    (found,) = data["problems"]
    assert found["question"] == "\n".join(map(visible, HOSTILE)) and found["runs"][0]["rewards"] == {data["title"]: 0.5}
    assert found["runs"][0]["confidence_L"] == problem["runs"][0]["confidence_L"]
    (data_line,) = [line for line in text.splitlines() if '"problems"' in line]
    inside = data_line.removeprefix('<script id="data" type="application/json">').removesuffix("</script>")
    assert not set(inside) & set("<>&") and inside.isascii()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\u202e\u2066\ufeff\ud800]", text)
    tokens = problem["runs"][0]["tokens"]
    assert tokens[6] == "a␀b␛[31m⟨U+007F⟩⟨U+0085⟩" and tokens[7] == "⟨U+202E⟩right to left⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩"
    assert tokens[8] == "⟨U+2028⟩⟨U+2029⟩⟨U+D800⟩" and tokens[9] == "π⏎😀" and tokens[0] == HOSTILE[0]


def test_the_page_needs_nothing_else():
    parsed = Parsed(trace.TEMPLATE.read_text())
    assert not {"link", "img", "iframe", "object", "embed", "form"} & set(parsed.tags)
    assert not {"src", "href", "action", "srcset"} & {name for name, _ in parsed.attributes}
    text = trace.TEMPLATE.read_text()
    assert not re.search(r"https?:|url\(|@import|innerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp", text)
    (policy,) = [value for name, value in parsed.attributes if name == "content" and "default-src" in value]
    assert policy.startswith("default-src 'none';")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The command's page for two problems of the shipped base."""
    file = tmp_path_factory.mktemp("trace") / "page.html"
    trace.main(composed("trace", f"to={file}", "problems=2", "sampler.gamma=0.1", "sampler.t_cutoff=0.1"))
    return file


def test_the_command_writes_the_page(shown):
    data = data_of(shown.read_text())
    task = composed("trace").task
    assert [problem["id"] for problem in data["problems"]] == [problem.id for problem in task.problems("test")[:2]]
    assert [path.name for path in shown.parent.iterdir()] == ["page.html"]
    for problem, known in zip(data["problems"], task.problems("test")[:2], strict=True):
        standard, pruned = problem["runs"]
        assert (standard["name"], standard["nfe"], pruned["name"], pruned["nfe"]) == ("Standard", 40, "STP", 33)
        assert not standard["forward_L"].count(0) and pruned["forward_L"].count(0) <= 5
        for one in (standard, pruned):
            text = "".join(one["tokens"][: one["until_eos"]]).removesuffix("EOS").replace("⏎", "\n")
            assert text == one["completion"]
            assert one["rewards"] == task.reward_parts(known, text) and one["correct"] == task.solves(known, text)
    assert any(problem["runs"][1]["forward_L"].count(0) == 5 for problem in data["problems"])


def test_a_runs_adapter_and_sampler_are_shown(tmp_path, capsys):
    run(tmp_path / "run", "experiment=lora", "model.lora.rank=2", "trainer.updates=1", "trainer.eval_size=0")
    trace.main(composed("trace", f"checkpoint={tmp_path / 'run'}", f"to={tmp_path / 'page.html'}", "problems=1"))
    data = data_of((tmp_path / "page.html").read_text())
    (problem,) = data["problems"]
    assert [(one["name"], one["nfe"], len(one["tokens"])) for one in problem["runs"]] == [("Standard", 6, 24), ("STP", 6, 24)]
    assert f"page in {tmp_path / 'page.html'}" in capsys.readouterr().out
    trace.main(composed("trace", "sampler=standard", f"to={tmp_path / 'alone.html'}", "problems=1"))
    assert [one["name"] for one in data_of((tmp_path / "alone.html").read_text())["problems"][0]["runs"]] == ["Standard"]


def test_mistakes_are_named(tmp_path):
    assert "problems=0: at least 1" in told("trace", "problems=0")
    with pytest.raises(UserError, match="no such folder; give a run folder"):
        trace.main(composed("trace", "checkpoint=nowhere", f"to={tmp_path / 'page.html'}"))


CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


def dom(file: Path, address: str = "", script: str = "") -> Parsed:
    """The page as headless Chromium shows it, after `script` ran in it."""
    if script:
        file = file.with_name("scripted.html")
        file.write_text(script)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{file}{address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return Parsed(done.stdout)


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")


@needs_chromium
@pytest.mark.parametrize("forward", [0, 17, 99])
def test_chromium_shows_the_state_after_each_forward(shown, forward):
    parsed = dom(shown, f"#problem=2&forward={forward}")
    problem = data_of(shown.read_text())["problems"][1]
    chips, last = iter(parsed.chips), max(one["nfe_run"] for one in problem["runs"])
    for one in problem["runs"]:
        for place, (revealed, text) in enumerate(zip(one["forward_L"], one["tokens"], strict=True)):
            kind, title, seen = next(chips)
            done = forward >= one["nfe_run"] if revealed is None else revealed <= forward
            expected = {None: "closed", 0: "fixed", one["fill"]: "fill"} if one["fill"] else {None: "closed", 0: "fixed"}
            assert kind[1] == (expected.get(revealed, "revealed") if done else "masked")
            assert seen == (text if done else "▒") and title.startswith(f"position {place + 1}: ")
            if done and revealed:
                assert f"forward {revealed}" in title
                assert float(title.split("confidence ")[1][:-1]) == pytest.approx(100 * one["confidence_L"][place], abs=0.051)
            assert ("new" in kind) == (revealed == min(forward, last) > 0)
    assert next(chips, None) is None
    assert parsed.by_id["where"] == f"forward {min(forward, last)} of {last}"


@needs_chromium
def test_chromium_takes_the_keys(shown, tmp_path):
    file = tmp_path / "page.html"
    press = "for (const key of ['ArrowDown', 'End', 'ArrowLeft', 'ArrowLeft']) "
    press += "document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));"
    pressed = dom(file, script=shown.read_text().replace("</body>", f"<script>{press}</script></body>"))
    problem = data_of(shown.read_text())["problems"][1]
    last = max(one["nfe_run"] for one in problem["runs"])
    assert pressed.by_id["question"] == problem["question"]
    assert pressed.by_id["where"] == f"forward {last - 2} of {last}"
    played = dom(file, script=shown.read_text().replace("</body>", "<script>at('play').click()</script></body>"))
    assert played.by_id["play"] == "Pause"


@needs_chromium
def test_chromium_runs_nothing_of_a_hostile_text(tmp_path):
    text, problem = hostile_page()
    (tmp_path / "hostile.html").write_text(text)
    parsed = dom(tmp_path / "hostile.html", "#problem=1&forward=99")
    assert [seen for _, _, seen in parsed.chips] == problem["runs"][0]["tokens"]
    assert parsed.tags.count("script") == 2 and "img" not in parsed.tags
    assert parsed.by_id["question"] == "\n".join(map(visible, HOSTILE))
    assert parsed.by_id["title"] == visible("".join(HOSTILE)) != "owned"
