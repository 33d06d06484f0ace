"""Providers: how their bytes are fetched and what they mean. One module a provider."""
