"""What is read of a source: names, versions, commands, settings, for the ways in which authors write them."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from typing import Any

import pytest

from vfab.dialects import explain, read_plugins
from vfab.model.errors import BadManifest
from vfab.model.manifest import Manifest, manifest_from_dict

SAMPLES = Path(__file__).parent / "samples"


def read(text: str, name: str = "plugin.py") -> list[Manifest]:
    return read_plugins(f"/place/{name}", textwrap.dedent(text).encode())


def only(text: str, name: str = "plugin.py") -> Manifest:
    (manifest,) = read(text, name)
    return manifest


def settings(manifest: Manifest) -> dict[str, Any]:
    assert manifest.config_schema is not None
    found: dict[str, Any] = manifest.config_schema["properties"]
    return found


# ---- 001 §7


@pytest.mark.parametrize(
    "line", ["from . import constants as C", "import constants as C", "from lib import constants as C"]
)
def test_constants_of_a_module_beside_the_plugin_are_read_where_they_are_used(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "lib" if "lib" in line else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "constants.py").write_text('NAME = "cutter"\nVERSION = "3.1"\n')
    text = f"""
        from vfab.dialects import DriverPlugin
        {line}
        VERSION = "of the plugin's own file"
        class P(DriverPlugin):
            def __init__(self):
                super().__init__(C.NAME, C.VERSION)
        """
    (manifest,) = read_plugins(str(tmp_path / "plugin.py"), textwrap.dedent(text).encode())
    assert (manifest.name, manifest.version) == ("cutter", "3.1")


@pytest.mark.parametrize(
    ("body", "name", "version"),
    [
        ('super().__init__("a", "1")', "a", "1"),
        ('super().__init__(name="a", version="1")', "a", "1"),
        ('DriverPlugin.__init__(self, "a", version="1")', "a", "1"),
        ("super().__init__(NAME, self.version)", "constant", "3"),
        ("super().__init__(label, number)", "default", "2.5"),
        ("super().__init__(compute(), 7)", "plugin", "7"),
        ('super().__init__("Größe 2/x", "latest")', "Gr--e-2-x", "3"),
        ('super().__init__("2nd", "1")', "plugin-2nd", "1"),
        ("pass", "plugin", "3"),
    ],
)
def test_a_name_and_a_version_are_read_however_they_are_given(body: str, name: str, version: str) -> None:
    manifest = only(f"""
        from vfab.dialects import DriverPlugin
        NAME = "constant"
        class P(DriverPlugin):
            version = "3"
            def __init__(self, label="default", number="2.5"):
                {body}
        """)
    assert (manifest.name, manifest.version) == (name, version)


@pytest.mark.parametrize(
    "imports",
    [
        "from vfab.dialects import DriverPlugin as Base",
        "import vfab.dialects as d\nBase = d.DriverPlugin",
        "try:\n    from vfab.dialects import DriverPlugin as Base\nexcept ImportError:\n    Base = object",
    ],
)
def test_the_base_class_is_known_by_its_own_name(imports: str) -> None:
    found = read(imports + "\nclass P(Base):\n    pass\n")
    direct = read("import vfab.dialects as d\nclass P(d.DriverPlugin):\n    pass\n")
    assert len(direct) == 1 and len(found) == (0 if "Base = d" in imports else 1)


def test_only_the_last_of_a_family_is_a_plugin_and_it_inherits() -> None:
    manifest = only("""
        class Base(DriverPlugin):
            def __init__(self):
                super().__init__("family", "2")
            def get_driver_info(self):
                info = {"author": "A. Author", "type": "camera"}
                info["description"] = "Reads"
                return info
            def get_manager_class(self):
                chosen = Manager
                return Manager
        class Leaf(Base):
            pass
        class Manager:
            async def shoot(self, mode: "Optional[str]" = None, *, n: int | None = 2, raw: Dict[str, int] = None): ...
            @staticmethod
            def depth(bits: Literal["8", "16"] = "8"): ...
            @property
            def hidden(self): ...
            def setGain(self, gain: Union[float, None], X=1, _y=2, *more, timeout_s=3, **rest): ...
            def Odd(self): ...
            def connect(self): ...
            def emit(self): ...
            def abort(self): ...
        """)
    assert (manifest.name, manifest.author, manifest.category, manifest.description) == (
        "family",
        "A. Author",
        "camera",
        "Reads",
    )
    assert manifest.driver_class == "plugin.Leaf"
    commands = manifest.commands
    assert set(commands) == {"shoot", "depth", "set-gain", "emit", "abort"}
    assert commands["shoot"].parameters["n"].type == "integer" and commands["shoot"].parameters["n"].default == 2
    assert commands["shoot"].parameters["raw"].help == "object, as JSON"
    assert commands["depth"].parameters["bits"].choices == ("8", "16")
    assert set(commands["set-gain"].parameters) == {"gain"} and commands["set-gain"].parameters["gain"].type == "number"
    assert commands["emit"].method == "command_emit"
    assert commands["abort"].concurrent


def test_a_plotter_is_an_instrument_for_its_methods_are_not_a_plotters() -> None:
    text = 'class P(DriverPlugin):\n    def get_driver_info(self):\n        return {"category": "plotter"}\n'
    assert only(text).category == "instrument"


def test_a_manager_from_elsewhere_is_called_by_method_name() -> None:
    text = "from .m import M\nclass P(DriverPlugin):\n    def get_manager_class(self):\n        return M\n"
    assert list(only(text).commands) == ["call-method"]


# ---- settings


def test_a_class_of_settings_is_read_with_types_bounds_and_defaults() -> None:
    manifest = only("""
        from pydantic import BaseModel, Field, SecretStr, conint
        SPEEDS = [1, 2]
        class Parity(str, Enum):
            NONE = "N"
            EVEN = "E"
        class Common(BaseModel):
            host: str
            retries: int = 3
        class PConfig(Common):
            model_config: ClassVar = {}
            _private: int = 1
            count: int = Field(5, gt=0, lt=10, multiple_of=5, title="T")
            name: Optional[str] = Field(None, min_length=1, max_length=5, pattern="x+")
            ratio: "float" = 0.5
            mode: Literal["a", "b"] = "a"
            level: Annotated[int, Field(ge=1), "note"] = 1
            parity: Parity = Parity.EVEN
            tags: list[str] = Field(default_factory=list)
            table: Dict[str, int] = Field(default_factory=dict)
            speeds: List[int] = SPEEDS
            password: SecretStr = Field(...)
            path: Path = Path("x")
            small: conint(ge=0) = 0
            any: Union[int, str] = 1
            either: int | str | None = None
            what: "not ( an annotation" = 2
            made: int = Field(default=compute())
            needed: float
        class P(DriverPlugin): ...
        """)
    found = settings(manifest)
    assert manifest.config_schema is not None
    assert manifest.config_schema["required"] == ["password", "needed"], "the device's address is the host"
    assert found["count"] == {
        "type": "integer", "default": 5, "exclusiveMinimum": 0, "exclusiveMaximum": 10, "multipleOf": 5, "title": "T",
    }  # fmt: skip
    assert found["name"] == {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "x+"}
    assert found["ratio"] == {"type": "number", "default": 0.5}
    assert found["mode"] == {"type": "string", "enum": ["a", "b"], "default": "a"}
    assert found["level"] == {"type": "integer", "minimum": 1, "default": 1}
    assert found["parity"] == {"enum": ["N", "E"], "default": "E"}
    assert found["tags"] == {"type": "array", "items": {"type": "string"}, "default": []}
    assert found["table"] == {"type": "object", "default": {}}
    assert found["speeds"]["default"] == [1, 2]
    assert found["password"] == {"type": "string", "writeOnly": True}
    assert found["path"] == {"type": "string"}
    assert found["small"] == {"type": "integer", "minimum": 0, "default": 0}
    assert found["any"] == {"type": "integer", "default": 1} and found["what"] == {"type": "integer", "default": 2}
    assert found["either"] == {} and found["made"] == {"type": "integer"}
    assert "_private" not in found and "model_config" not in found


def test_settings_without_a_class_are_what_the_code_looks_up() -> None:
    manifest = only("""
        def create_pump_manager(**kwargs):
            return PumpManager(**kwargs)
        def is_pump_available(): return True
        class PumpManager:
            def __init__(self, port: str, baudrate: int = 9600, *, config=None, odd=compute(), **options):
                '''Make it.

                Args:
                    baudrate (int): bits per second
                '''
                self.rate = float(options["rate"])
                self.limit = options.get("limit") or 5
                self.name = (config or {}).get("name", "pump")
                self.settings = options
                self.on = bool(self.settings.get("on", 1))
                self.computed = options.get(f"{port}x")
                options.pop("unit", None)
        """)
    assert manifest.name == "pump"
    assert settings(manifest) == {
        "rate": {"type": "number"},
        "limit": {"type": "integer", "default": 5},
        "name": {"type": "string", "default": "pump"},
        "on": {"type": "boolean"},
        "unit": {},
        "port": {"type": "string"},
        "baudrate": {"type": "integer", "default": 9600, "description": "bits per second"},
        "odd": {},
    }
    assert "required" not in (manifest.config_schema or {})


def test_settings_are_followed_through_the_names_that_the_code_gives_them() -> None:
    manifest = only("""
        class P(DriverPlugin):
            def initialize(self, cfg):
                self._mine = cfg
                return self._mine["volume"] > 0
            def get_manager_class(self):
                return M
        class M:
            def __init__(self, **given):
                self.opts = dict(DEFAULTS, **given)
                self.merged = {"a": 1, **self.opts}
                self.port = self.opts.port
                self.x = self.opts["x"], self.merged.get("y", 2), self.port["no"], {"a": 1}["a"]
        """)
    assert list(settings(manifest)) == ["x", "y", "volume"]
    assert (manifest.config_schema or {})["additionalProperties"] is True, "there may be more"


# ---- 001 §2


def test_two_contracts_in_a_file_are_two_plugins_each_with_its_own_classes() -> None:
    first, second = read("""
        '''Scales.'''
        VERSION = "4.1"
        class AlphaConfig(BaseModel):
            a: int = 1
        class AlphaManager:
            def weigh(self): ...
        class BetaXConfig(BaseModel):
            b: int = 1
        class BetaXManager:
            def tare(self): ...
        def create_alpha_manager(**kw) -> AlphaManager: return build(kw)
        def get_alpha_install_instructions(): return ""
        def create_beta_x_manager(**kw):
            made = BetaXManager(**kw)
            return made
        def is_beta_x_available(): return True
        def create_lonely_manager(): ...
        """)
    assert (first.name, first.version, list(first.commands), list(settings(first))) == (
        "alpha",
        "4.1",
        ["weigh"],
        ["a"],
    )
    assert (second.name, list(second.commands), list(settings(second))) == ("beta_x", ["tare"], ["b"])
    assert first.description == "Scales."


# ---- 002


def test_commands_and_their_arguments_are_read_from_the_branches() -> None:
    manifest = only(
        """
        class D(BaseDeviceDriver):
            supported_commands = {"go": "Go there", "Set Rate": {"help": "Set it"}, "both": 5, 7: "", "?": ""}
            version = 1.5
            def _command_impl(self, device, command, arguments=None):
                if command == "go":
                    x = float(arguments["x"]); return arguments.get("speed", 10)
                elif command in ("Set Rate", "both"):
                    return self._rate(arguments)
                match command:
                    case "go": return arguments["Upper"]
            def _rate(self, args):
                return self.config.get("rate", 1.5), args["hz"]
        """,
        "drv_d.py",
    )
    assert (manifest.name, manifest.version, manifest.description) == ("drv_d", "1.5", "drv_d, a plugin in one file")
    assert list(manifest.commands) == ["go", "set-rate", "both", "execute-command", "scan"]
    go = manifest.commands["go"]
    assert (go.help, go.parameters["x"].type, go.parameters["speed"].default) == ("Go there", "number", 10)
    assert manifest.commands["set-rate"].help == "Set it" and "hz" in manifest.commands["both"].parameters
    assert settings(manifest)["rate"] == {"type": "number", "default": 1.5}


@pytest.mark.parametrize("value", ['["a", "b"]', '("a", "b")', '{"a", "b"}'])
def test_commands_may_be_a_bare_list(value: str) -> None:
    text = f"""
        class D(BaseDeviceDriver):
            def __init__(self):
                super().__init__()
                self.supported_commands: object = {value}
        """
    assert {"a", "b"} < set(only(text, "drv_x.py").commands)


def test_commands_that_only_running_would_tell_leave_the_general_one() -> None:
    text = "class D(BaseDeviceDriver):\n    supported_commands = build()\n"
    assert list(only(text, "drv_x.py").commands) == ["execute-command", "scan"]
    assert list(only("class D(BaseDeviceDriver): ...", "drv_x.py").commands) == ["execute-command", "scan"]


def test_a_base_of_such_drivers_in_a_file_of_another_name_is_no_plugin() -> None:
    assert read("class D(BaseDeviceDriver): ...", "base.py") == []


# ---- 004


def test_a_decorator_is_read_by_position_and_by_name_and_must_be_literal() -> None:
    manifest = only("""
        M = ["x"]
        @sdk.driver_plugin("p", "1", "a", "d", M, supported_models=["y"], dependencies=["numpy"], driver_class="lies")
        class D(InstrumentDriver):
            def __init__(self, resource_name, config=None):
                self.config = config or {}
                self.nplc = self.config.get("nplc", 1.0)
        """)
    assert (manifest.supported_methods, manifest.supported_models, manifest.dependencies) == (
        ("x",),
        ("y",),
        ("numpy",),
    )
    assert manifest.driver_class == "plugin.D" and list(settings(manifest)) == ["nplc", "resource_name"]
    with pytest.raises(BadManifest, match=r"plugin.py:2: @driver_plugin version: found compute\(\); write a literal"):
        read('\n@driver_plugin("p", version=compute(), author="a", description="d",\n  supported_methods=[], '
             'supported_models=[])\nclass D(InstrumentDriver): ...\n')  # fmt: skip
    with pytest.raises(BadManifest, match="supported_models: found nothing"):
        read('@driver_plugin("p", "1", "a", "d", [])\nclass D(InstrumentDriver): ...\n')


# ---- 003


def test_javascript_is_a_driver_only_if_it_requires_the_base_and_exports_a_class() -> None:
    good = "const B = require('../base-driver.js');\nmodule.exports = class Dsp extends B {}\nmodule.exports.x = 1"
    manifest = only(good, "harvey_dsp.js")
    assert (manifest.name, manifest.runtime.language, manifest.version) == ("harvey_dsp", "node", "0.0.0")
    assert manifest.description == "Dsp, a driver in JavaScript"
    for text in ("// require('./base-driver')\nmodule.exports = class X {}", "module.exports = class X {}"):
        assert read(text, "x.js") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("const B = require('./base-driver')", "it exports no class"),
        ("const B = require('./base-driver'); module.exports = create", "module.exports is create, which is no class"),
        ("const B = require('./base-driver'); class X extends B {}\nmodule.exports = { X }", "it exports no class"),
        ("import B from './base-driver.js';\nexport default class X extends B {}", "it is an ES module"),
    ],
)
def test_a_javascript_file_that_requires_the_base_and_is_no_driver_is_told(text: str, why: str) -> None:
    with pytest.raises(BadManifest, match=why) as caught:
        read(text, "x.js")
    assert "module.exports = " in caught.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "const Relay = class extends B {\n  async set(outlet, on = true, after = 0.5) { }\n};",
        "class Relay extends B {\n  set(outlet, on = true, after = 0.5) { }\n}",
        "function Relay(o) { B.call(this, o); }\nRelay.prototype.set = function (outlet, on = true, after = 0.5) { };",
    ],
)
def test_a_javascript_class_is_read_however_it_is_written(text: str) -> None:
    manifest = only(f"const B = require('./base-driver');\n{text}\nmodule.exports = Relay;\n", "relay.js")
    parameters = manifest.commands["set"].parameters
    assert (parameters["outlet"].required, parameters["on"].type, parameters["after"].type) == (
        True,
        "boolean",
        "number",
    )


# ---- what is no plugin, and what cannot be read


@pytest.mark.parametrize(
    "text", ["class P(DriverPlugin:", "class P(DriverPlugin): \0", "# DriverPlugin\n" + "(" * 5000, "x = 'DriverPlugin"]
)
def test_what_is_not_python_is_told_with_its_file(text: str) -> None:
    with pytest.raises(BadManifest, match="it looks like a plugin and is not Python") as caught:
        read(text)
    assert caught.value.context["file"] == "/place/plugin.py"


def test_a_file_in_another_encoding_is_read_as_it_says() -> None:
    text = "# -*- coding: latin-1 -*-\nclass P(DriverPlugin):\n    '''Größe'''\n".encode("latin-1")
    assert read_plugins("/place/p.py", text)[0].description == "Größe"


def test_the_manager_of_the_document_itself_is_no_plugin() -> None:
    assert read("class DriverPlugin:\n    '''Base.'''\ndef driver_plugin(name): ...\n# @driver_plugin(...)\n") == []


def test_values_that_break_a_manifests_rules_are_told() -> None:
    text = '@driver_plugin("p", "1", "a", "d", [], [], min_platform_version="soon")\nclass D(InstrumentDriver): ...\n'
    with pytest.raises(BadManifest, match=r"/place/plugin\.py: min_platform_version"):
        read(text)


# ---- what a native plugin gains


def test_every_shape_is_explained_with_what_a_native_plugin_gains() -> None:
    seen = set()
    for path in sorted(SAMPLES.rglob("*")):
        if path.suffix in {".py", ".js"} and path.parent.name != "broken":
            for manifest in read_plugins(str(path), path.read_bytes()):
                told = explain(manifest).to_dict()
                seen.add(told["dialect"])
                assert told["document"] and told["recognised_by"] and told["steps"]
                assert any("safe_stop" in gain for gain in told["gains"])
                assert ("contract" in told["gains"][-1]) is (told["dialect"] != "instrument_plugin")
    assert seen == {"driver_plugin", "function_contract", "drv_module", "instrument_plugin", "js_driver"}
    base = {"name": "a", "version": "1", "author": "b", "description": "c", "driver_class": "d.E"}
    native = explain(manifest_from_dict(base))
    assert (native.dialect, native.gains, native.steps) == ("native", (), ())


def test_reading_a_literal_gives_up_on_what_is_none() -> None:
    from vfab.dialects.reading import UNKNOWN, first_line, literal

    def expression(text: str) -> ast.expr:
        return ast.parse(text, mode="eval").body

    assert literal(None) is UNKNOWN and not UNKNOWN and repr(UNKNOWN) == "UNKNOWN"
    assert literal(expression("[a, 2]"), {"a": 1}) == [1, 2] and literal(expression("[a, b]"), {"a": 1}) is UNKNOWN
    assert (
        literal(expression("{'k': a}"), {"a": 1}) == {"k": 1} and literal(expression("{'k': b}"), {"a": 1}) is UNKNOWN
    )
    assert literal(expression("{**a}"), {"a": {}}) is UNKNOWN
    assert first_line(expression("1")) == "" and first_line(None) == ""


@pytest.mark.parametrize(
    "value",
    [
        '{**COMMON, "echo": "Echo text"}',
        'dict(COMMON, echo="Echo text")',
        'dict(ping="Ping", echo="Echo text")',
        'dict(**COMMON, echo="Echo text")',
        "ALL",
    ],
)
def test_commands_are_read_however_their_table_is_put_together(value: str) -> None:
    text = f"""
        COMMON = {{"ping": "Ping"}}
        ALL = {{"ping": "Ping", "echo": "Echo text"}}
        class D(BaseDeviceDriver):
            def __init__(self):
                super().__init__()
                self.supported_commands = {value}
        """
    commands = only(text, "drv_table.py").commands
    assert {name: command.help for name, command in commands.items()}.items() >= {
        "ping": "Ping",
        "echo": "Echo text",
    }.items()


def test_names_that_classes_put_together_are_read_and_never_collide() -> None:
    text = """
        from vfab.dialects import DriverPlugin
        PREFIX = "lab_"
        class Lamp(DriverPlugin):
            VERSION = "1.2"
            def __init__(self): super().__init__(f"{self.COLOUR}_lamp", self.VERSION)
        class Red(Lamp): COLOUR = "red"
        class Blue(Lamp): COLOUR = "blue"
        class Sum(DriverPlugin):
            def __init__(self): super().__init__(PREFIX + "sum", "1")
        class First(DriverPlugin):
            def __init__(self): super().__init__(make_name(1), "1")
        class Second(DriverPlugin):
            def __init__(self): super().__init__(f"{make_name(2):>10}", "1")
        """
    found = {manifest.name: manifest.version for manifest in read(text)}
    assert found == {"red_lamp": "1.2", "blue_lamp": "1.2", "lab_sum": "1", "First": "1", "Second": "1"}


def test_managers_bases_and_constants_in_files_beside_a_plugin_are_read(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "base.py").write_text(
        "class Link:\n    def query(self, text: str): ...\nclass Unused(DriverPlugin): ...\n"
    )
    (tmp_path / "parts" / "manager.py").write_text(
        "from . import base\nNAME = 'far_lamp'\nclass LampManager(base.Link):\n"
        "    def __init__(self, port='COM1', **more): ...\n    def shine(self, percent: int = 5): ...\n"
    )
    (tmp_path / "lamp.py").write_text(
        "import socket\nfrom vfab.dialects import DriverPlugin\nfrom parts.manager import NAME, LampManager as Made\n"
        "class Lamp(DriverPlugin):\n    def __init__(self): super().__init__(NAME, '1')\n"
        "    def get_manager_class(self): return Made\n"
    )
    (tmp_path / "drv_far.py").write_text("from parts.drv_base import Common as C\nclass Far(C): ...\n")
    (tmp_path / "parts" / "drv_base.py").write_text(
        "from sat_toolkit.core.base_plugin import BaseDeviceDriver\n"
        "class Common(BaseDeviceDriver):\n    supported_commands = {'ping': 'Ping'}\n"
    )
    (manifest,) = read_plugins(str(tmp_path / "lamp.py"), (tmp_path / "lamp.py").read_bytes())
    assert manifest.name == "far_lamp"
    assert list(manifest.commands) == ["query", "shine"]
    assert settings(manifest)["port"] == {"type": "string", "default": "COM1"}
    (manifest,) = read_plugins(str(tmp_path / "drv_far.py"), (tmp_path / "drv_far.py").read_bytes())
    assert manifest.commands["ping"].help == "Ping"
