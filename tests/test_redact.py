"""Secrets are masked wherever they turn up, and little else is."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runnable_otel.redact import MASK, Redactor
from runnable_otel.secret_names import names_a_secret

REDACTOR = Redactor()

SECRET_NAMES = """
        password passwd pwd passphrase secret token api_key apikey apiKey API_KEY x-api-key X-Api-Key dbPassword
    db.password     accessToken access_token client_secret clientSecret CLIENT_SECRET authorization Authorization
    auth auth_header authHeader     credential credentials GOOGLE_APPLICATION_CREDENTIALS cookie Set-Cookie cookies
    private_key privateKey session session_id     sessionid sessionId SESSION_ID JSESSIONID PHPSESSID secrets
    passwords password_hash password2 PGPASSWORD DB_PASS     aws_secret_access_key AWS_ACCESS_KEY_ID AccountKey
    refresh_tokens proxyAuthorization OAuthToken mypassword authtoken     secretkey HTTPBasicAuth jwt bearer_token
    github_token hf_token csrfToken passWord signing_key
"""
INNOCENT_NAMES = """
        token_count max_tokens tokens_used tokenizer tokens total_tokens tokenCount prompt_tokens eos_token
    pad_token_id token_ids     token_type_ids token_embeddings token_limit author authors authority author_name
    auth_method session_length session_count     session_timeout sessions secretary passenger monkey keyboard
    cookiecutter compass bypass pass pass_rate key keys primary_key     public_key sort_key cache_key secret_name
    password_min_length cookie_policy has_password is_secret credentials_path     token_expiry hotkey turnkey
    accession assess x batch_size learning_rate
"""

# A text, and the part of it that must not be seen.
PLANTED = [
    ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("ASIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    *((f"gh{kind}_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F292c6912E7710c838347Ae178B4a") for kind in "pousr"),
    ("github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789", "11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789"),
    *((f"xox{kind}-123456789012-abcdefABCDEF", "123456789012-abcdefABCDEF") for kind in "abprs"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF_-123", "eyJzdWIiOiIxMjM0In0.abcDEF_-123"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow==\nabc\n-----END RSA PRIVATE KEY-----", "MIIEow==\nabc"),
    ("-----BEGIN PRIVATE KEY-----\\nMIIEow==\\n-----END PRIVATE KEY-----", "MIIEow=="),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk", "b3BlbnNzaC1rZXk"),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----", "lQOYBF"),
    ("Bearer abc.def-ghi", "abc.def-ghi"),
    ("authorization: bearer abcdefgh", "abcdefgh"),
    ("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("Authorization: Basic abcdef", "abcdef"),
    ('curl -H "Authorization: Token hunter2" https://x', "hunter2"),
    ("Authorization: AWS4-HMAC-SHA256 Credential=AKID/2024, Signature=fe5f80", "fe5f80"),
    ("Cookie: a=hunter2; b=hunter3", "hunter3"),
    ("postgres://user:hunter2@host/db", "user:hunter2"),
    ("postgres://user:hun/ter2@host/db", "hun/ter2"),
    ("redis://:hunter2@host:6379/0", "hunter2"),
    ("https://t0ken@github.com/x", "t0ken"),
    ("amqp://u:p@ss@host", "p@ss"),
    ("https://bucket/x?X-Amz-Signature=fe5f80f77d5fa3&a=1", "fe5f80f77d5fa3"),
    ("https://x.blob.core.windows.net/y?sv=1&sig=fe5f80f77d5fa3", "fe5f80f77d5fa3"),
    ("curl -u bob:hunter2 https://x", "hunter2"),
    ("password=hunter2", "hunter2"),
    ("password = hunter2", "hunter2"),
    ("PASSWORD:hunter2", "hunter2"),
    ('password="hunter2 and more"', "hunter2 and more"),
    ("{'password': 'hunter2'}", "hunter2"),
    ('{"api_key": "hunt\\"er2"}', "er2"),
    ('{"api_key":"hunter2","x":1}', "hunter2"),
    ('{\\"token\\": \\"hunter2\\"}', "hunter2"),
    ("token: hunter2", "hunter2"),
    ("api key: hunter2", "hunter2"),
    ("https://x/y?access_token=hunter2&x=1", "hunter2"),
    ("mysql --password hunter2 -h x", "hunter2"),
    ("tool --api-key=hunter2", "hunter2"),
    ("tool --client-secret 'hunter2 3'", "hunter2 3"),
    ("export DB_PASS=hunter2", "hunter2"),
    ('os.environ["API_TOKEN"] = "hunter2"', "hunter2"),
    ("requests.get(url, auth=('bob', 'hunter2'))", "hunter2"),
    ('password = """hunter2"""', "hunter2"),
    ("token => b'hunter2'", "hunter2"),
    ("AccountKey=hunter2==;EndpointSuffix=x", "hunter2"),
    ("4111111111111111", "4111111111111111"),
    ("4111 1111 1111 1111", "1111 1111"),
    ("5500-0000-0000-0004", "0000-0004"),
    ("378282246310005", "378282246310005"),
    ("3782 822463 10005", "822463"),
    ("4222222222222", "4222222222222"),
    ("6304000000000000000", "6304000000000000000"),
    ("pylf_v1_eu_abcdefghijkl", "abcdefghijkl"),
    ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "SyA1234567890"),
    ("sk_live_abcdefgh12345", "abcdefgh12345"),
    ("sk-proj-abc123def456ghi789", "abc123def456ghi789"),
    ("sk-ant-api03-abcdefghijk", "api03-abcdefghijk"),
    ("hf_abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz"),
    ("glpat-abcdefghijklmnop1234", "abcdefghijklmnop1234"),
]

# Secrets that are known only by what comes late in them, or that are much longer than their mask.
LONG = [
    (f"postgres://user:{'s3cr3tPa55' * 20}@host", "s3cr3tPa55s3cr3tPa55"),
    (f"eyJ{'hbGciOiJI' * 30}.eyJ{'zdWIiOiIx' * 30}.c", "hbGciOiJIhbGciOiJI"),
    (f"-----BEGIN PRIVATE KEY-----\n{'MIIEowIBAA' * 10}\n-----END PRIVATE KEY-----", "MIIEowIBAAMIIEowIBAA"),
    (f"password={'hunter2x' * 9}", "hunter2xhunter2x"),
]

INNOCENT = [
    "",
    "hello",
    "The quick brown fox: it jumped over the lazy dog, 12 times = a dozen",
    "author: bob, authors=bob, token_count: 5, tokens: 500, session_length=3, secretary: ann, max_tokens=5",
    "monkey=3 keyboard: us compass: north cookiecutter: x passenger=1",
    "https://example.com:8080/a@b?x=1 https://medium.com/@user git clone ssh://git@github.com/x",
    "registry:5000/image@sha256:0123456789abcdef https://registry:5000/image@sha256:0123",
    "a basic understanding, Basic Authentication, the bearer token, a bearer of news",
    "Asia, risk-adjusted-returns-analysis-2024, task-process-something-very-long, disk-usage",
    "4111111111111112 1732400000000 1732400000000000 0.4111111111111111 550e8400-e29b-41d4-a716-446655440000",
    "2024-01-01 2024-12-31, 4111 1111 1111, d41d8cd98f00b204e9800998ecf8427e",
    'password=None, token: null, secret = "", def f(token: str, password: Optional[str])',
    "-----BEGIN CERTIFICATE-----\nMIIEow==\n-----END CERTIFICATE-----",
    "docker run -u 1000:1000 x; date -u +%H:%M",
    f"password={MASK}, Bearer {MASK}, https://{MASK}@host",
    "File \"x.py\", line 3, in get_token\nKeyError: 'session'",
    "pass: 3, fail: 4, pass_rate=0.5",
]


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_names_of_secrets(name: str) -> None:
    """A name that looks secret is known in snake, camel, kebab, dotted and upper case, split or not."""
    assert REDACTOR.key(name)
    assert not REDACTOR.passes(name)


@pytest.mark.parametrize("name", INNOCENT_NAMES.split())
def test_innocent_names(name: str) -> None:
    """A name that only contains the letters of a secret one, or names a property of a secret, is not masked."""
    assert not REDACTOR.key(name)
    assert REDACTOR.passes(name)


def test_names_of_any_length() -> None:
    """A long name is judged by its ends, and not kept."""
    assert REDACTOR.key("x" * 10_000_000 + "_password")
    assert not REDACTOR.key("x_" * 10_000_000)
    assert names_a_secret.cache_info().maxsize is not None
    assert REDACTOR.passes("x" * 100)
    assert not REDACTOR.passes("x" * 100 + "_password")


@pytest.mark.parametrize(("text", "part"), PLANTED)
@pytest.mark.parametrize("around", ["{}", "so {} it is", "line\n{}\nline", "é☃ {} İ", '{{"x": "{}"}}', "({})"])
def test_planted_secrets(text: str, part: str, around: str) -> None:
    """A secret of each kind is masked alone, in a sentence, among lines, beside characters that change length in lower
    case, and in JSON."""
    assert part in text
    masked = REDACTOR.text(around.format(text))
    assert part not in masked
    assert MASK in masked


@pytest.mark.parametrize(("text", "part"), PLANTED)
def test_planted_in_json(text: str, part: str) -> None:
    """A secret that was written into JSON before, escapes and all, is masked too."""
    encoded = json.dumps({"message": text})
    assert json.dumps(part)[1:-1] not in REDACTOR.text(encoded)


@pytest.mark.parametrize("text", INNOCENT)
def test_innocent_texts(text: str) -> None:
    """An innocent text comes back as the same object."""
    assert REDACTOR.text(text) is text


def test_what_stays() -> None:
    """Only the secret is masked: what names it, and what follows it, stays readable."""
    assert REDACTOR.text("postgres://user:pw@host/db") == f"postgres://{MASK}@host/db"
    assert REDACTOR.text('{"api_key": "abc", "x": 1}') == f'{{"api_key": "{MASK}", "x": 1}}'
    assert REDACTOR.text("password=a user=b") == f"password={MASK} user=b"
    assert REDACTOR.text("GET /x?token=a&y=b") == f"GET /x?token={MASK}&y=b"
    assert REDACTOR.text("f(token=abc, x=1)") == f"f(token={MASK}, x=1)"
    assert REDACTOR.text("Bearer abcdef123 and so on") == f"Bearer {MASK} and so on"
    assert REDACTOR.text("card 4111 1111 1111 1111.") == f"card {MASK}."
    assert REDACTOR.text("İİİ PASSWORD=hunter2 x") == f"İİİ PASSWORD={MASK} x"  # two characters in lower case


@settings(deadline=None)
@given(st.text(max_size=300) | st.text(st.sampled_from(list("abt=:/@-_'\"\\{}[] \n4e")), max_size=300))
def test_masking_twice_changes_nothing(text: str) -> None:
    """A masked text is not masked again, and masking never raises."""
    once = REDACTOR.text(text)
    assert REDACTOR.text(once) == once


@given(st.integers(10**12, 10**19 - 1), st.sampled_from("23456"))
def test_cards(number: int, first: str) -> None:
    """Of the numbers that could be a card's just those are masked that pass Luhn's check."""
    digits = first + str(number)[1:]
    doubled = (int(digit) * (1 + at % 2) for at, digit in enumerate(reversed(digits)))
    passes = sum(value - 9 * (value > 9) for value in doubled) % 10 == 0
    assert REDACTOR.text(f"n {digits}") == (f"n {MASK}" if passes else f"n {digits}")


# --- literal secrets and patterns ----------------------------------------------------------------------------------


def test_literal_secrets() -> None:
    """The values of a secrets manager are masked wherever they turn up, in each form that a log may give them."""
    redactor = REDACTOR.with_secrets(["hunter2", 'a"b\nc d/e', "first line of it\nsecond line of it", " padded \n"])
    for text in (
        "x hunter2 y",
        "xhunter2y",
        json.dumps('a"b\nc d/e'),
        repr('a"b\nc d/e'),
        "x=a%22b%0Ac%20d%2Fe",
        "x=a%22b%0Ac+d%2Fe",
        "log: second line of it",
        "value padded",
        "File name too long: 'eachitemabcdeX1Y.execution.log'",  # runnable makes names of files of letters only
    ):
        masked = redactor.text(text)
        assert MASK in masked
        assert not any(part in masked for part in ("hunter2", "c d/e", "d%2Fe", "second line", "padded"))


def test_longer_literals_first() -> None:
    """A secret that contains another one is masked whole."""
    assert Redactor(secrets=["hunter2", "hunter2-and-more"]).text("a hunter2-and-more b") == f"a {MASK} b"


def test_a_literal_of_any_length() -> None:
    """A literal secret longer than any window is masked to its end, and where its end is cut off."""
    secret = "".join(f"{i:x}," for i in range(10_000))
    redactor = Redactor(secrets=[secret])
    assert redactor.text(f"a {secret} b {secret}") == f"a {MASK} b {MASK}"
    assert redactor.head(f"a {secret}", 20)[0] == f"a {MASK}"


def test_short_literals_are_ignored() -> None:
    """Values shorter than four characters, and parts of the mask, are no literal secrets; then there is no new copy."""
    assert REDACTOR.with_secrets(["", "a", "abc", "redacted"]) is REDACTOR
    assert REDACTOR.text("abc redacted") == "abc redacted"


def test_immutable_and_silent() -> None:
    """A redactor can't be changed, its copy leaves it as it was, and its repr shows no secret."""
    copy = REDACTOR.with_secrets(["hunter2"])
    assert copy is not REDACTOR
    assert REDACTOR.text("hunter2") == "hunter2"
    assert "hunter2" not in repr(copy)
    with pytest.raises(AttributeError):
        copy.extra = ()  # type: ignore[misc]
    assert copy.with_secrets(["hunter3"]).text("hunter2 hunter3") == f"{MASK} {MASK}"


def test_extra_patterns() -> None:
    """Further patterns mask names that contain them, in any case, as keys and inside texts."""
    redactor = Redactor(("ssn", "^iban$"))
    assert redactor.key("my_SSN_no")
    assert redactor.key("IBAN")
    assert not redactor.key("ibans")
    assert redactor.key("password")
    text = "ssn=1 iban: 2 ibans: 3 --ssn 4 password=5"
    assert redactor.text(text) == f"ssn={MASK} iban: {MASK} ibans: 3 --ssn {MASK} password={MASK}"
    assert redactor.with_secrets(["hunter2"]).text("ssn=1 hunter2") == f"ssn={MASK} {MASK}"
    assert not redactor.passes("ssn")


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "(?P<a>x)(?P<a>y)"])
def test_a_bad_pattern_is_named(pattern: str) -> None:
    """A pattern that is no regular expression is named in the error."""
    with pytest.raises(ValueError, match="redact pattern") as raised:
        Redactor(("ok", pattern))
    assert repr(pattern) in str(raised.value)


# --- windows -------------------------------------------------------------------------------------------------------


SIZES = st.integers(0, 600)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(LONG) | st.sampled_from(PLANTED), min_size=1, max_size=4), st.integers(0, 80), SIZES)
def test_the_head_of_a_text_is_masked_as_the_whole(planted: list[tuple[str, str]], before: int, size: int) -> None:
    """Whatever the place of a cut, the head of a text shows no part of a secret that the whole would not show."""
    text = "\n".join(["." * before, *(secret for secret, _ in planted), "..." * 1000])
    whole = REDACTOR.text(text)
    head, masked, more = REDACTOR.head(text, size)
    assert more
    assert masked or head in text
    shown = head[:size]
    for _, part in planted:
        for at in range(max(1, len(part) - 4)):
            piece = part[at : at + 5]
            assert piece not in shown or piece in whole


def test_the_head_of_a_huge_text() -> None:
    """The head of a text is an exact `str` of bounded length, of a subclass too."""

    class Own(str):
        __slots__ = ()

    head, masked, more = REDACTOR.head(Own("x" * 10_000_000), 100)
    assert type(head) is str
    assert len(head) <= 100 + 512
    assert (masked, more) == (False, True)
    assert REDACTOR.head("password=hunter2", 100) == (f"password={MASK}", True, False)


ADVERSARIAL = [
    *("token", "eyJ", "eyJa.", "://", "://a:b", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "password=", "bearer "),
    *("basic ", "4", "4 ", "4111 ", "sk-", "ghp_", "xoxb-", "a.", "--a ", "token=[", "token='", "-u a", "?sig=", '"'),
    *(
        "\\",
        "token: \\",
        "authorization:",
        "token" + " " * 50,
        "token\\\\\\\\",
        "a" * 63 + " ",
        "://" + "a" * 300,
        "İ=",
    ),
    *("user:@", "://a@", "key ", "api key: ", "password" + "=" * 9, "'\"", "\n ", "=", ":", "-", "_", "\\'", "1,"),
]


@pytest.mark.parametrize("piece", ADVERSARIAL)
@pytest.mark.parametrize("redactor", [REDACTOR, Redactor(("x+y",), ["hunter2" * 200])], ids=["plain", "extra"])
def test_no_text_takes_forever(piece: str, redactor: Redactor) -> None:
    """A megabyte of beginnings of secrets is read once: were it read once for each of them, it would take hours."""
    text = piece * (1_000_000 // len(piece))
    redactor.text(text)
    redactor.text(text + "\n")
    redactor.key(text)


@pytest.mark.parametrize("lines", ["{}", "one\ntwo {}\nthree"])
@pytest.mark.parametrize("escape", [r"\195", r"\0195", r"\x41", r"\n", r"\t", r"\\n", r"\c", r"\e"])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_what_a_shells_echo_makes_of_a_secret(shell: str, escape: str, lines: str) -> None:
    """A shell takes a backslash in a secret for an escape: what it writes then is masked on both of its sides."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    left, right = "3bZ6Vz5bhOYM6s8a4O", "zn4nZaQ7xLw2"
    secret = lines.format(f"{left}{escape}{right}")
    for command in ("echo $PLANTED", 'echo -e "$PLANTED"', 'printf "%b" "$PLANTED"'):
        done = subprocess.run([shell, "-c", command], env={"PLANTED": secret}, capture_output=True, check=True)
        said = done.stdout.decode(errors="replace")
        assert left in said
        masked = Redactor(secrets=[secret]).text(said)
        assert left not in masked
        assert right not in masked
