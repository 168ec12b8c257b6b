"""The API for people: `/v1/infer`, `/v1/models`, `/v1/plan`. `router.make_router` is the door."""
