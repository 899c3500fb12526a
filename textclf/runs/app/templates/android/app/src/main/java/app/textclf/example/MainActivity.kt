package app.textclf.example

import android.app.Activity
import android.os.Bundle
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import java.util.concurrent.Executors

/** Shows what the model makes of a text. The model is opened and used on one thread of its own. */
class MainActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private var model: Model? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val fields = Model.FIELDS.map { name -> EditText(this).apply { hint = name } }
        val result = TextView(this).apply { textSize = 20f }
        val button = Button(this).apply { text = Model.ACTION }
        button.setOnClickListener {
            val texts = fields.map { it.text.toString() }
            worker.execute {
                val shown = runCatching { opened().describe(texts) }.getOrElse { "The model cannot be used: ${it.message}" }
                runOnUiThread { result.text = shown }
            }
        }
        val column = LinearLayout(this).apply { orientation = LinearLayout.VERTICAL }
        (fields + button + result).forEach { column.addView(it) }
        setContentView(ScrollView(this).apply {
            fitsSystemWindows = true
            addView(column)
        })
    }

    override fun onDestroy() {
        super.onDestroy()
        worker.execute { model?.close() }
        worker.shutdown()
    }

    private fun opened(): Model = model ?: Model(this).also { model = it }
}
