"""Import every module of a package: python writes their bytecode, and that of all they import.

`python import_all.py PACKAGE [EXTRA …]`: modules that need a package named EXTRA may stay out, nothing else.
"""

import importlib
import pkgutil
import sys

OF_ALEMBIC = "cloud_manager.store.migrations.env"  # runs within alembic alone

package, extras = importlib.import_module(sys.argv[1]), sys.argv[2:]
for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
    try:
        if module.name != OF_ALEMBIC:
            importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in extras:
            raise
