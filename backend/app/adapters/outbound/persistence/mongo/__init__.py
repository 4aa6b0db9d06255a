"""The store for teams: MongoDB, through Motor or PyMongo's own asynchronous client."""

from app.adapters.outbound.persistence.mongo.store import MongoStore, open_mongo

__all__ = ["MongoStore", "open_mongo"]
