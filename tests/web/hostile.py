"""Events with what may break a frame, a parser or a terminal; JSON values all, so that they come back as they are."""

BREAKS = "a\nb\rc\r\nd\x0be\x0cf\x1cg\x1dh\x1ei\x85j\u2028k\u2029l"

EVENTS = [
    {"type": "x", "text": BREAKS},
    {"type": "x", BREAKS: 1},
    {"type": BREAKS},
    {"type": "x", "text": "nul \x00 bom \ufeff del \x7f c1 \x9b escape \x1b[31m"},
    {"type": "x", "text": "\n\ndata: not a frame\n\nevent: end\ndata: {}\n\nid: \x00\n\n"},
    {"type": "x", "text": "lone \ud800 and \udfff, a pair 😀, not a character \uffff"},
    {"type": "x", "text": "\\u2028 \\n \\ \" </script> <!-- &amp; ' %0a"},
    {"type": "x", "numbers": [0, -1, 2**53, 10**40, 1.5e300, True, None], "deep": [[[[{"a": {}}]]]]},
    {"type": "x", "text": "ü😀\n" * 200_000},
    {"type": "", "": ""},
]
