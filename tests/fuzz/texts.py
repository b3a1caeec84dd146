"""Texts that a model, a file or a person could hold, hostile ones among them."""

from hypothesis import strategies as st

TAGS = ["<answer>", "</answer>", "<reasoning>", "</reasoning>", "<reasoning>\n", "\n</reasoning>\n<answer>\n", "\n</answer>\n"]
BOXES = ["\\boxed{", "\\boxed ", "\\boxed", "\\fbox{", "{", "}", "\\{", "\\}", "$", "(", ")", "[", "]"]
LATEX = [
    "\\frac",
    "\\sqrt",
    "\\text{ ",
    "\\times",
    "\\left",
    "^",
    "_",
    "\\%",
    "\\frac{1}{2}",
    "\\cdot",
    "\\pi",
    "\\\\",
    "x",
    "=",
    ",",
]
NUMBERS = ["5", "3+4+5", "12", "1,250", "18.", ".5", "-3", "7/0", "9**9", "0", "3*4", "1" * 40, "5 or 6", "٥", "５", "²", "1e9"]
CONTROLS = [
    "\0",
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\r",
    "\b",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "\u200b",
    "\ufeff",
    "\ud800",
    "\n",
]
MARKUP = ["</script>", "<!--", "<img src=x onerror=alert(1)>", "{{data}}", "&lt;", "]]>"]

pieces = st.one_of(
    st.sampled_from(TAGS),
    st.sampled_from(BOXES + LATEX),
    st.sampled_from(NUMBERS),
    st.sampled_from(CONTROLS + MARKUP),
    st.text(st.characters(), max_size=8),
)
repeated = st.tuples(pieces, st.sampled_from([1, 1, 1, 1, 2, 3, 17, 300, 2_000])).map(lambda pair: pair[0] * pair[1])
texts = st.lists(repeated, max_size=24).map("".join)
wrapped = st.tuples(
    st.sampled_from(["{}", "<answer>{}</answer>", "\\boxed{{{}}}", "<answer>\\boxed{{{}}}</answer>", "{} <answer>5</answer>"]),
    texts,
).map(lambda pair: pair[0].replace("{{", "{").replace("}}", "}").replace("{}", pair[1], 1))
completions = texts | wrapped
