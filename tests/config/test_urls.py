import pytest

from relume.config.urls import without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host:8443/path?q=a@b", "https://***@host:8443/path?q=a@b"),
        ("http://token@host/", "http://***@host/"),
        ("http://u:p@[::1]:80/", "http://***@[::1]:80/"),
        ("http://host/a@b", "http://host/a@b"),
        ("hf://org/model", "hf://org/model"),
        ("", ""),
    ],
)
def test_user_and_password_of_a_url_are_not_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
