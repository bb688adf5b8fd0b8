from pathlib import Path

import pytest

from ernie_vilg_jax import huge_pages


@pytest.mark.parametrize(
    ("pages", "tunables", "libc", "told"),
    [
        ("always [madvise] never", "", "glibc", True),
        ("always [madvise] never", "glibc.malloc.hugetlb=1", "glibc", False),
        ("always [madvise] never", "", "", False),
        ("[always] madvise never", "", "glibc", False),
        ("always madvise [never]", "", "glibc", False),
        (None, "", "glibc", False),
    ],
)
def test_huge_pages_are_recommended_where_they_help(
    pages: str | None, tunables: str, libc: str, told: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "enabled"
    if pages:
        file.write_text(pages)
    monkeypatch.setenv("GLIBC_TUNABLES", tunables)
    monkeypatch.setattr(huge_pages.platform, "libc_ver", lambda: (libc, "2.36"))
    tip = huge_pages.tip(file)
    assert bool(tip) == told
    assert not tip or "GLIBC_TUNABLES=glibc.malloc.hugetlb=1" in tip
