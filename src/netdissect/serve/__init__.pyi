from .app import create_app as create_app
from .app import guarded as guarded
from .server import serve as serve
