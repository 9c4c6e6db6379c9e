"""What the page says, in Chinese: of each bug what it does and where it says that it should be otherwise."""

from __future__ import annotations

WORDS = {
    "a = -0.5, renormalised at the edges, where it is -0.75 with corners and in PyTorch":
        "系数 a 为 -0.5 并在边缘重新归一化；对齐角点时以及 PyTorch 中均为 -0.75",
    "its gradient is another one where x < 0": "x < 0 处的梯度是另一个函数的",
    "the gradient of the target is 0": "对目标的梯度为 0",
    "rows and columns that output_padding adds are zeros instead of the convolution's":
        "output_padding 增加的行和列是零，而不是卷积的结果",
    "a NaN becomes 0: a run that has diverged goes on": "NaN 变成 0：已经发散的训练会继续下去",
    "a NaN is lost": "丢失 NaN",
    "a NaN becomes a bound": "NaN 变成边界值",
    "1 is subtracted from exp(x): no digit is left where the function is for":
        "用 exp(x) 减 1：在这个函数本来的用处上不剩一位有效数字",
    "1 is added before the logarithm: no digit is left near 0": "先加 1 再取对数：0 附近不剩一位有效数字",
    "beyond 5 it is taken for 1: 1e-4 off, and without a gradient": "大于 5 就当作 1：相差 1e-4，且没有梯度",
    "exp(x) overflows: from 45 on it is NaN": "exp(x) 溢出：从 45 起为 NaN",
    "exp(-x) overflows: -inf and NaN gradients": "exp(-x) 溢出：结果为 -inf，梯度为 NaN",
    "its gradient divides by what was multiplied: NaN": "梯度除以相乘的数：NaN",
    "0 times 0 ** -1 is NaN; the derivative of 1 is 0": "0 乘以 0 的 -1 次方为 NaN；常数 1 的导数是 0",
    "0 / 0 is NaN; PyTorch's is 0, a subgradient": "0 / 0 为 NaN；PyTorch 给出次梯度 0",
    "slopes are drawn in evaluation as well, where they are to be the mean": "推理时也随机抽取斜率，本应取平均值",
    "where both axes have one element its gradient raises in PyNative: perm of 3 for 4 axes":
        "两个轴都只有一个元素时，PyNative 下求梯度报错：perm 为 3 维而张量为 4 维",
    "its weights are rounded to those of a table": "权重被舍入到一张表的值",
    "lerp towards log(0) by 0.5 gives NaN where PyTorch's gives -inf: the last step is NaN":
        "向 log(0) 插值 0.5 得到 NaN，PyTorch 得到 -inf：最后一步为 NaN",
    "einsum k,bkc...->bc... became a product that broadcasts over the height of the image":
        "einsum k,bkc...->bc... 被写成沿图像高度广播的乘积",
    "alphas_cumprod[-1] is set before there is any: rescale_betas_zero_snr raises AttributeError":
        "在创建 alphas_cumprod 之前就给 alphas_cumprod[-1] 赋值：rescale_betas_zero_snr 报 AttributeError",
    "a bracket is closed too late, .exp() of a numpy array: sigma_schedule exponential raises":
        "括号位置写错，对 numpy 数组调用 .exp()：sigma_schedule exponential 报错",
    "uniform(shape) of a numpy generator takes the shape for the lower bound: it raises, or gives NaN":
        "numpy 生成器的 uniform(shape) 把形状当作下界：报错或得到 NaN",
    "its default betas are two and eps is one number where CAME takes three and two: it raises":
        "默认 betas 为两个数、eps 为一个数，而 CAME 需要三个和两个：报错",
    "its documented defaults, for each name": "文档所写的、对每个名称都适用的默认值",
    "wd is handed on as wd, and read as weight_decay: nothing decays":
        "以 wd 之名传入，却按 weight_decay 读取：权重根本不衰减",
    "Moonlight's Muon, which it says it follows": "它声明遵循的 Moonlight 的 Muon",
    "after flattening it asserts that what was given has two axes": "展平之后仍断言原输入只有两个轴",
    "every parameter of two axes or more": "所有两个轴以上的参数",
    "where construct raised TypeError under value_and_grad, twice, no tensor takes an integer as index any more":
        "construct 在 value_and_grad 之下两次抛出 TypeError 之后，任何张量都不再接受整数下标",
    "an index may be an integer, as the very message says": "下标可以是整数，报错信息自己也这样写",
    "the sinusoidal table, a buffer, has become a parameter that is trained": "正弦表本是 buffer，变成了会被训练的参数",
    "queries lose the axis of heads, the mask keeps it: it cannot be broadcast":
        "query 去掉了头的维度而掩码没有：无法广播",
    "to_add_out is as wide as the image's output, not as the text's": "to_add_out 的宽度取自图像输出，而不是文本",
    "frequencies by MindSpore's exp, which is 138 units off, times a time of up to 1,000":
        "频率用 MindSpore 的 exp 计算（相差 138 个末位单位），再乘以最大 1,000 的时间",
    "float32 has no way of its own: it is computed in float16, without a word":
        "float32 没有自己的分支：不作任何提示就用 float16 计算",
    "mint.nn.funtional: it cannot run": "写成了 mint.nn.funtional：无法运行",
    "nn.AdamWeightDecay, which has no bias correction": "用了没有偏差修正的 nn.AdamWeightDecay",
    "nn.Adam, which adds eps before the bias correction": "用了在偏差修正之前加 eps 的 nn.Adam",
    "the number of the step, global_step, is never counted up: the momentum's schedule stands still":
        "步数 global_step 从不增加：动量的日程停在原处",
    "x.clip(...) gives its result, which is dropped": "x.clip(...) 的返回值被丢弃",
    "(b, 1, 1, 1) times (b,) is (b, 1, 1, b): every image gets the mean weight":
        "(b, 1, 1, 1) 乘 (b,) 得到 (b, 1, 1, b)：每张图像都得到平均权重",
    "computed in float32": "用 float32 计算",
    "it acts at calls 10, 20, 30": "在第 10、20、30 次调用时更新",
    "documented as the function of that name, with PyTorch's formula": "文档写的是同名函数，公式与 PyTorch 相同",
    "max(0, x)": "max(0, x)",
    "if one of the elements being compared is a NaN, then that element is returned":
        "文档：比较的元素中有 NaN 时返回 NaN",
    "its formula leaves x where no bound is passed": "公式在不越界处保留 x",
    "the paper that its documentation names": "文档所引的论文",
    "diffusers 0.35.2, which it says it is compatible with": "它声明兼容的 diffusers 0.35.2",
    "its name, and PyTorch's AdamW": "其名称，以及 PyTorch 的 AdamW",
    "its name, and PyTorch's Adam": "其名称，以及 PyTorch 的 Adam",
    "the schedule of the paper that it names": "它所引论文的日程",
    "x_0 within [-1, 1]": "x_0 在 [-1, 1] 之内",
    "a weight for each image": "每张图像一个权重",
    "in double and rounded once, as the original's": "与原实现一样用双精度计算、只舍入一次",
    "at 1, 11, 21: ema-pytorch": "在第 1、11、21 次：ema-pytorch",
}  # fmt: skip

REMARKS = {
    "MindSpore's tanh (see above), in the pooler at 30 times what it is given":
        "MindSpore 的 tanh（见上），出现在输入放大 30 倍的 pooler 中",
    "the same": "同上",
    "the same, in gelu_new": "同上，在 gelu_new 中",
    "the same, in gelu_new at 30 times what it is given": "同上，在输入放大 30 倍的 gelu_new 中",
    "the same, in the pooler": "同上，在 pooler 中",
    "a layer knows past_key_value where transformers says past_key_values: it raises TypeError, after which "
    "MindSpore's tensors refuse an integer as index (see above)":
        "某层的参数名是 past_key_value，而 transformers 用 past_key_values：报 TypeError，"
        "此后 MindSpore 的张量拒绝整数下标（见上）",
    "MindSpore's gradient of a matmul of swapped axes raises (see above), in the pooling head":
        "MindSpore 对交换轴之后的 matmul 求梯度时报错（见上），在 pooling head 中",
    "MindSpore's tanh and sigmoid, 22 and 13 units off, in a third batch: a false alarm":
        "MindSpore 的 tanh 和 sigmoid 相差 22 和 13 个末位单位，出现在第三个批次：误报",
    "in training mode the original draws at random outside of its dropout layers: not judged":
        "训练模式下原模型在 dropout 层之外也随机抽样：未判断",
    "it only computes forward: outputs are judged, with the original's weights as they are; gradients, layers and "
    "training are not":
        "只有前向计算：用原模型的权重判断输出；梯度、各层和训练不作判断",
    "the last step is NaN (see above)": "最后一步为 NaN（见上）",
    "diffusers itself: the root of a difference that rounding makes negative is NaN in its float32":
        "diffusers 自身的问题：舍入使差变成负数，float32 下开方得 NaN",
    "its tables are made in float32 where diffusers' are in double, for want of an expm1 of doubles, as a comment "
    "there says":
        "表用 float32 制作，而 diffusers 用双精度；那里的注释说明是因为 expm1 不支持双精度",
    "mindone is right: at the last step no noise is left, and diffusers takes a double from a float32: a false alarm":
        "mindone 是对的：最后一步不再有噪声，而 diffusers 用 float32 减去双精度数：误报",
    "the same as above": "与上面相同",
    "the logarithm of an integer 1, which MindSpore does not compute on a CPU":
        "对整数 1 取对数，MindSpore 在 CPU 上不支持",
    "a second order at sigma 0 is not defined: both are infinite": "sigma 为 0 时二阶公式无定义：两边都是无穷大",
}  # fmt: skip
AS_A_GRAPH, OF_PYNATIVE = "as a graph the port raised ", "; what is said here is of PyNative"


def remark(text: str) -> str:
    """A remark of the last column; what MindSpore raised stays as it is."""
    if text.startswith(AS_A_GRAPH):
        raised = text.removeprefix(AS_A_GRAPH).removesuffix(OF_PYNATIVE)
        return f"编译为图时移植报错 {raised}；此处的结论属于 PyNative"
    return REMARKS.get(text, text)
