"""The OpenAI wire format over an engine.

In: HTTP requests. Out: JSON and event streams. Must not know: tensors, modules.
"""

from camelid.serve.app import Limits, create_app
from camelid.serve.remote_pictures import AllowedHost
from camelid.serve.served_model import ServedModel

__all__ = ["AllowedHost", "Limits", "ServedModel", "create_app"]
