"""What is masked, and what must stay readable."""

import logging

import pytest

from streamtrain.errors import ConfigError
from streamtrain.masking import MASK, MaskingFormatter, is_secret, mask_text, mask_value

SECRETS = [
    "sasl.username", "sasl.password", "ssl.key.password", "ssl.key.pem", "ssl_key", "ssl.keystore.password",
    "sasl.jaas.config", "sasl.oauthbearer.config", "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase", "sasl.kerberos.kinit.cmd", "ssl_engine_callback_data",
    "schema.registry.basic.auth.password", "api_key", "aws_secret_access_key", "aws_access_key", "TOKEN",
]  # fmt: skip
OPEN = [
    "bootstrap.servers", "client.id", "group.id", "security.protocol", "sasl.mechanism", "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.pem", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location",
    "sasl.oauthbearer.client.id", "sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url", "sasl.oauthbearer.assertion.private.key.file", "sasl.kerberos.keytab",
    "enable.ssl.certificate.verification",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_secret_properties(name: str) -> None:
    assert is_secret(name) and mask_value({name: "hush"}) == {name: MASK}


@pytest.mark.parametrize("name", OPEN)
def test_open_properties(name: str) -> None:
    assert not is_secret(name) and mask_value({name: "shown"}) == {name: "shown"}


HIDDEN = [
    "s3://user:hush@bucket/path", "http://user:hush@proxy:3128", "ftp://u:hush/with@signs@host/dir",
    "https://hush@github.com/x", "simplecache::s3://u:hush@b/x", "https://h/x?a=1&token=hush", "https://h/x?sig=hush&b=2",
    "https://h/?X-Amz-Signature=hush", "https://h/?aws_secret=hush", "at 'sftp://u:hush@h/x' and more", "redis://:hush@h:1",
]  # fmt: skip
SHOWN = [
    "s3://bucket/path@1/x", "hdfs://host:9000/user@x/y", "http://10.0.0.1:8000/health", "file:///data/a:b@c",
    "a:b@c without a URL", "https://h/x?a=1&b=2", "memory://models/20240101",
]  # fmt: skip


@pytest.mark.parametrize("text", HIDDEN)
def test_urls_with_a_secret(text: str) -> None:
    assert "hush" not in mask_text(text) and MASK in mask_text(text)
    assert mask_text(mask_text(text)) == mask_text(text)
    assert "hush" not in str(ConfigError(f"{text} is wrong", remedy=f"Correct {text}"))
    assert "hush" not in str(mask_value({"runner": [{"train_data_dir": text}]}))
    record = logging.LogRecord("x", logging.INFO, "f", 1, "reading %s", (text,), None)
    assert "hush" not in MaskingFormatter().format(record)


@pytest.mark.parametrize("text", SHOWN)
def test_urls_without_one(text: str) -> None:
    assert mask_text(text) == text


def test_what_is_no_text_can_be_logged_and_said() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 1, "of %s", ("f\udcff",), None)
    assert MaskingFormatter().format(record).endswith(r"of f\udcff")
    assert str(ConfigError("f\udcff", remedy="see \udcff")) == r"f\udcff. see \udcff"
