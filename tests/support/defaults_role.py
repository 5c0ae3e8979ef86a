"""python defaults_role.py CONFIG OUT: what the servers of the config's job are told of its sparse table, as JSON."""

import importlib
import sys
from pathlib import Path

from google.protobuf import json_format, text_format

from streamtrain.config import load_config
from streamtrain.engine.engine import Engine, fleet

config = load_config(sys.argv[1])
Engine(config.model_dir, config.raw, exact_delta=False)
messages = importlib.import_module("paddle.distributed.fleet.proto.the_one_ps_pb2")
text = fleet.fleet._runtime_handle.ps_desc_builder.build_server_desc()
told = text_format.Parse(text, messages.PSParameter())
table = told.server_param.downpour_server_param.downpour_table_param[0]
Path(sys.argv[2]).write_text(json_format.MessageToJson(table, preserving_proto_field_name=True))
