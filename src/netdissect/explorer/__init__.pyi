from .asgi import create_app as create_app
from .asgi import guarded as guarded
from .server import serve as serve
