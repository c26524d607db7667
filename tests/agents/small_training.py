"""Trainings of seconds, which learn nothing."""

from __future__ import annotations

from progressgym_env.agents.training import TrainConfig

SMALL = {
    "ppo": {"n_envs": 16, "segment": 256, "batch_size": 64, "n_epochs": 2, "net_arch": [16]},
    "sac": {"n_envs": 4, "segment": 64, "batch_size": 32, "net_arch": [16], "buffer_size": 512,
            "learning_starts": 32, "gradient_steps": 2},
}  # fmt: skip


def small(algorithm="ppo", challenge="coevolve"):
    settings = dict(SMALL[algorithm])
    if challenge == "predict" and algorithm == "ppo":
        settings.update(segment=224, batch_size=56)
    return settings


def config(algorithm="ppo", challenge="coevolve", segments=3, **changed):
    settings = small(algorithm, challenge)
    return TrainConfig(
        algorithm=algorithm,
        challenge=challenge,
        total_steps=segments * settings["segment"],
        settings={**settings, **changed},
    )


def finished(trainer):
    while not trainer.done:
        trainer.train_segment()
    return trainer


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.policy.state_dict().items()}
