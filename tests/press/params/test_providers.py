"""The names of the providers stand as a type and as keys of a table."""

from typing import get_args

from press.params.providers import PROVIDERS, ProviderName


def test_the_table_has_each_provider_of_the_type_and_no_other():
    assert tuple(PROVIDERS) == get_args(ProviderName)
