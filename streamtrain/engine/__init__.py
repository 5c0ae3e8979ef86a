"""All that imports paddle: models, servers, datasets, saves. Only worker and server processes import
`streamtrain.engine.engine`; `stats` and `environment` need no paddle."""
