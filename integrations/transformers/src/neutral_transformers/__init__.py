"""Extensions trained by neutral, on models of transformers.

model = load_extension(AutoModelForCausalLM.from_pretrained(base), "my-extension")
"""

from .format import ExtensionError
from .model import gates, load_extension, unload_extension

__all__ = ["ExtensionError", "gates", "load_extension", "unload_extension"]
