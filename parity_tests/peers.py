"""x"""
import importlib.util
def installed(name): return importlib.util.find_spec(name) is not None
