from tests.fuzz import tried


def pytest_terminal_summary(terminalreporter):
    """How many inputs were tried, and what became of them."""
    for kind in sorted({kind for kind, _ in tried}):
        accepted, refused = tried[kind, "accepted"], tried[kind, "refused"]
        terminalreporter.write_line(
            f"{kind}: {accepted + refused:,} inputs tried, {accepted:,} accepted, {refused:,} refused in one line"
        )
