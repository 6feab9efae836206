"""What `fovea` exports, for type checkers: __init__.py imports it when it is asked for."""

from .attention import Attention as Attention
from .attention import Plan as Plan
from .engine import Engine as Engine
from .flex import flex_attention as flex_attention
from .functional import attend as attend
from .functional import default_engine as default_engine
from .kv_cache import KvCache as KvCache
from .problem import AttentionSpec as AttentionSpec
from .problem import KvFormat as KvFormat
from .problem import KvTables as KvTables
from .problem import Limits as Limits
from .problem import TileClasses as TileClasses
from .variants import Variant as Variant
from .variants import variant as variant

__version__: str
__all__: list[str]
