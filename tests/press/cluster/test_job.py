"""A job's folder has the machine's cache and the remote's place, whatever the path of that is."""

from pathlib import Path

import pytest
from configobj import ConfigObj

from press.cluster import job, worker

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("url", ["/data/store", "/data #2/store", "/data/a, b", " /data", '/it\'s "here"'])
def test_a_remotes_path_is_read_as_it_stands(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(worker.HOME, "/work #1")
    Path(".dvc").mkdir()
    job.configure({"name": "storage", "url": url})
    config = ConfigObj(".dvc/config.local")
    assert config['remote "storage"'] == {"url": url}
    assert config["cache"] == {"dir": "/work #1/cache"}
    assert config["core"] == {"no_scm": "true", "analytics": "false"}
