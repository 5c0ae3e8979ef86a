"""All that imports Paddle: models, servers, datasets, saves. Worker and server processes import `engine`, processes
that serve or compare models import `inference`; `stats`, `tables` and `environment` need no Paddle."""
